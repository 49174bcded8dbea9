from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import datasets
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets.utils import tqdm
from torch.utils.data import DataLoader, Dataset

from ... import progress
from ..columns import describe, find_image_column, find_label_column


class Encoder(Protocol):
    """An image tower: pixel values (batch × channels × height × width) to features (batch × …)."""

    def __call__(self, pixel_values: torch.Tensor, /) -> torch.Tensor: ...


@runtime_checkable
class FingerprintedEncoder(Encoder, Protocol):
    """An encoder whose features can be kept in a file, such as [`~hf_sharp_prompt.ImageEncoder`]."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the features."""


class Collator(Protocol):
    """Makes `pixel_values` of rows, which may have no labels; it may name its `image_column` and `label_column`."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the pixel values."""

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class Encoding:
    """Which images are encoded, by what and how: the arguments of `ImageFeatures.compute`.

    Raises:
        ValueError: No images, or no column of them; fewer than one view or image at a time.
    """

    dataset: datasets.Dataset
    encode: Encoder
    collator: Collator
    views: int = 1
    seed: int = 0
    dtype: torch.dtype = torch.float32
    batch_size: int = 64
    num_workers: int = 0

    def __post_init__(self) -> None:
        if self.views < 1 or self.batch_size < 1 or self.num_workers < 0:
            raise ValueError(
                "views and batch_size must be at least 1 and num_workers at least 0, got "
                f"views={self.views!r}, batch_size={self.batch_size!r} and num_workers={self.num_workers!r}."
            )
        if len(self.dataset) == 0:
            raise ValueError("There are no images to encode; give a data set that has some.")
        if self.image_column is None:
            columns = describe(self.dataset.features)
            raise ValueError(f"There is no column of images to encode; there are {columns}.")

    @property
    def image_column(self) -> str | None:
        return getattr(self.collator, "image_column", None) or find_image_column(self.dataset.features)

    @property
    def label_column(self) -> str | None:
        return getattr(self.collator, "label_column", None) or find_label_column(self.dataset.features)


@torch.no_grad()
def encode_images(encoding: Encoding, first: int = 0) -> Iterator[torch.Tensor]:
    """Encode images once, by all processes together.

    The processes take turns with the batches, and every process gets all of the features. Batches are the same ones,
    and views drawn the same, whatever the number of processes and workers, and so are the features, bit for bit.

    Args:
        encoding: The images, the encoder and its settings.
        first: The image to begin with, the first of a batch.

    Yields:
        Batch by batch in the order of the images: images × views × …, on the CPU.

    Raises:
        ValueError: An image that cannot be decoded; features that are not finite.
    """
    state = PartialState()
    batches = _Batches(encoding, first)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=[min(number, len(batches) - 1) for number in _share(len(batches), state)],
        num_workers=encoding.num_workers,
        pin_memory=state.device.type == "cuda",
        generator=torch.Generator(),  # so that the global random numbers are not touched
    )
    share = (encoding.encode(pixel_values).to("cpu", encoding.dtype) for pixel_values in loader)
    total = len(encoding.dataset) * encoding.views
    bar = tqdm(
        total=total,
        initial=first * encoding.views,
        desc="Encoding images",
        unit=" images",
        leave=False,
        disable=not state.is_main_process,
    )

    def in_order() -> Iterator[torch.Tensor]:
        done = first * encoding.views
        progress.report("encoding", done, total)
        for number in range(0, len(batches), state.num_processes):
            for features in gather_object(list(islice(share, 1)))[: len(batches) - number]:
                _check_finite(features, encoding.dtype)
                bar.update(len(features))
                done += len(features)
                progress.report("encoding", done, total)
                yield features

    with bar:
        all_features = in_order()
        while views_of_batch := list(islice(all_features, encoding.views)):
            yield torch.stack(views_of_batch, dim=1)


def _share(batches: int, state: PartialState) -> range:
    """Return the numbers of a process's batches; all processes have as many, and the last may be beyond the batches.

    An image tower that is sharded over the processes has to be called by all of them.
    """
    rounds = -(-batches // state.num_processes)
    return range(state.process_index, rounds * state.num_processes, state.num_processes)


def _check_finite(features: torch.Tensor, dtype: torch.dtype) -> None:
    if wrong := int((~features.isfinite()).flatten(1).any(dim=1).sum()):
        raise ValueError(
            f"The features of {wrong} of {len(features)} images of a batch are not finite as {dtype}; keep them as "
            "torch.float32, or check the model's weights."
        )


class _Batches(Dataset):
    """Pixel values of every view of every batch of images, from an image on: all views of a batch follow each other.

    Each view of each image has its own random stream for its augmentation.
    """

    def __init__(self, encoding: Encoding, first: int) -> None:
        self.images = encoding.dataset.select_columns(encoding.image_column)
        self.collator = encoding.collator
        self.views = encoding.views
        self.seed = encoding.seed
        self.starts = range(first, len(self.images), encoding.batch_size)
        self.batch_size = encoding.batch_size

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
