"""What is drawn at random for samples, such as crops: the run's seed, the epoch and the batch decide it.

The number of workers, whether they live on between epochs, and earlier draws do not matter. So a run that is resumed
anywhere sees what it would have seen. Random numbers that are drawn elsewhere, as for dropout, stay the same.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..random_state import random_state_kept


SAMPLE_INDEX = "sample_index"


class Draws:
    """Seeds the random numbers that batches see.

    Args:
        seed: The run's seed.

    Attributes:
        epoch: The epoch, from 0, in memory that is shared with workers, so that those that live on see it change.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()

    @contextmanager
    def of(self, purpose: str, indices: Sequence[int]) -> Iterator[None]:
        """Seed Python, NumPy and torch's CPU generator for a batch, within the block.

        Args:
            purpose: What is drawn: the batch's items, or the batch that is made of them.
            indices: The samples of the batch.
        """
        key = repr((self.seed, int(self.epoch), purpose, [int(index) for index in indices]))
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        with random_state_kept():
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed a GPU's as well
            yield


class Seeded(Dataset):
    """A data set whose items come with their index, `(index, item)`, and see the random numbers of their batch.

    Args:
        dataset: The data set, with a length.
        draws: The random numbers.
    """

    def __init__(self, dataset: Any, draws: Draws) -> None:
        self.dataset, self.draws = dataset, draws

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[int, Any]]:
        with self.draws.of("items", indices):
            if hasattr(self.dataset, "__getitems__"):
                items = self.dataset.__getitems__(indices)
            else:
                items = [self.dataset[index] for index in indices]
        return list(zip(indices, items, strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is drawn for, from 0."""
        self.draws.epoch.fill_(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class SeededCollator:
    """Makes the batches that a collator makes of a `Seeded` data set's items, with each batch's random numbers.

    Args:
        collator: Makes batches of items without an index.
        draws: The random numbers.
    """

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]], draws: Draws) -> None:
        self.collator, self.draws = collator, draws

    def __call__(self, items: list[tuple[int, Any]]) -> dict[str, Any]:
        with self.draws.of("batch", [index for index, _ in items]):
            return self.collator([item for _, item in items])


class IndexedCollator(SeededCollator):
    """A [`SeededCollator`] whose batches also say which samples they hold, as `sample_index`."""

    def __call__(self, items: list[tuple[int, Any]]) -> dict[str, Any]:
        return {**super().__call__(items), SAMPLE_INDEX: torch.tensor([index for index, _ in items])}
