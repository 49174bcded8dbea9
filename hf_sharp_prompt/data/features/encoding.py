from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import datasets
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets.utils import tqdm
from torch.utils.data import DataLoader, Dataset

from ..collator import ImageCollator
from ..columns import describe, find_image_column


@torch.no_grad()
def encode_images(
    dataset: datasets.Dataset,
    encode: Callable[[torch.Tensor], torch.Tensor],
    collator: ImageCollator,
    views: int,
    seed: int,
    dtype: torch.dtype,
    batch_size: int,
    num_workers: int,
) -> Iterator[torch.Tensor]:
    """Encode images once, by all processes together.

    The processes take turns with the batches, and every process is given all of the features. Batches are the same
    ones, and views drawn the same, whatever the number of processes and workers, and so are the features, bit for bit.

    Args:
        dataset, encode, collator, views, seed, dtype, batch_size, num_workers: As of `ImageFeatures.compute`.

    Yields:
        Batch by batch in the order of the images: images × views × width, on the CPU.

    Raises:
        ValueError: No images, or no column of them; fewer than one view or image at a time; features that are not
            finite.
    """
    if views < 1 or batch_size < 1 or num_workers < 0:
        raise ValueError(
            "views and batch_size must be at least 1 and num_workers at least 0, got "
            f"views={views!r}, batch_size={batch_size!r} and num_workers={num_workers!r}."
        )
    if len(dataset) == 0:
        raise ValueError("There are no images to encode; give a data set that has some.")
    image_column = collator.image_column or find_image_column(dataset.features)
    if image_column is None:
        raise ValueError(f"There is no column of images to encode; there are {describe(dataset.features)}.")
    state = PartialState()
    batches = _Batches(dataset.select_columns(image_column), collator, views, seed, batch_size)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(state.process_index, len(batches), state.num_processes),
        num_workers=num_workers,
        pin_memory=state.device.type == "cuda",
        generator=torch.Generator(),  # its own, so that random numbers go on the same whether this runs or not
    )
    share = (encode(pixel_values).to("cpu", dtype) for pixel_values in loader)
    progress = tqdm(
        total=len(dataset) * views,
        desc="Encoding images",
        unit=" images",
        leave=False,
        disable=not state.is_main_process,
    )

    def in_order() -> Iterator[torch.Tensor]:
        for _ in range(0, len(batches), state.num_processes):
            for features in gather_object(list(islice(share, 1))):
                _check_finite(features, dtype)
                progress.update(len(features))
                yield features

    with progress:
        all_features = in_order()
        while views_of_batch := list(islice(all_features, views)):
            yield torch.stack(views_of_batch, dim=1)


def _check_finite(features: torch.Tensor, dtype: torch.dtype) -> None:
    if wrong := int((~features.isfinite()).any(dim=-1).sum()):
        raise ValueError(
            f"The features of {wrong} of {len(features)} images of a batch are not finite as {dtype}; keep them as "
            "torch.float32, or check the model's weights."
        )


class _Batches(Dataset):
    """Pixel values of every view of every batch of images: those of all views of the first batch come first.

    Each view of each image is augmented from a random stream of its own.
    """

    def __init__(
        self, images: datasets.Dataset, collator: ImageCollator, views: int, seed: int, batch_size: int
    ) -> None:
        self.images = images
        self.collator = collator
        self.views = views
        self.seed = seed
        self.starts = range(0, len(images), batch_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.starts) * self.views

    def __getitem__(self, number: int) -> torch.Tensor:
        batch, view = divmod(number, self.views)
        start = self.starts[batch]
        rows = range(start, min(start + self.batch_size, len(self.images)))
        return torch.cat([self._pixel_values(row, view) for row in rows])

    def _pixel_values(self, row: int, view: int) -> torch.Tensor:
        (stream,) = np.random.SeedSequence((self.seed, view, row)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(stream))
            return self.collator([self.images[row]])["pixel_values"]
