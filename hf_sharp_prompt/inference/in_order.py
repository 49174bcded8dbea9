"""Run images through a classifier by all processes together, and get the answers in the images' order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset

from ..data import ImageCollator
from ..printable import printable
from .classifier import Classifier


FEW = 256
"""As many images as are read sooner than worker processes start."""


def probabilities_in_order(
    classifier: Classifier, images: Sequence[Any], batch_size: int, num_workers: int | None = None
) -> Iterator[torch.Tensor | str]:
    """Classify images batch by batch, holding no more than a few batches.

    The processes take turns with the batches, and every process gets all answers.

    Args:
        classifier: The model with its adapter.
        images: Paths, or images in another form that [`ImageCollator`] takes.
        batch_size: Images classified at a time.
        num_workers: Processes that read images. By default one for each core but one, at most 8; none for few images.

    Yields:
        For each image in order the classes' probabilities, or a sentence that says why it cannot be read.
    """
    state = PartialState()
    starts = range(0, len(images), batch_size)
    own = starts[state.process_index :: state.num_processes]
    loader = DataLoader(
        ReadImages(images, classifier.collator),
        batch_sampler=[list(range(start, min(start + batch_size, len(images)))) for start in own],
        collate_fn=as_it_is,
        num_workers=choose_num_workers(len(images)) if num_workers is None else num_workers,
        generator=torch.Generator(),  # so that the global random numbers are not touched
    )
    with classifier.keeping_class_features():
        batches = iter(loader)
        for _ in range(0, len(starts), state.num_processes):
            yield from gather_object(answer(classifier, next(batches, [])))


class ReadImages(Dataset[torch.Tensor | str]):
    """Images as the model takes them; of one that cannot be read, a sentence that says why.

    Args:
        images: Paths, or images in another form that the collator takes.
        collator: Makes the pixel values.
    """

    def __init__(self, images: Sequence[Any], collator: ImageCollator) -> None:
        self.images, self.collator = images, collator

    def __getitem__(self, index: int) -> torch.Tensor | str:
        try:
            return self.collator([{"image": self.images[index]}])["pixel_values"][0]
        except (ValueError, OSError) as error:
            return printable(error)


def answer(classifier: Classifier, batch: list[torch.Tensor | str]) -> list[torch.Tensor | str]:
    """Return the probabilities of a batch's images, and what there is to say of those that could not be read."""
    read = [each for each in batch if isinstance(each, torch.Tensor)]
    found = iter(classifier.probabilities(torch.stack(read)) if read else ())
    return [each if isinstance(each, str) else next(found) for each in batch]


def choose_num_workers(count: int) -> int:
    """Choose how many processes read images: the process itself keeps a core."""
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return min(8, max(0, cores - 1)) if count > FEW else 0


def as_it_is(batch: list[Any]) -> list[Any]:
    """Collate nothing; a worker process needs a function with a name."""
    return batch
