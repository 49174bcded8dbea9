from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset


SAMPLE_INDEX = "sample_index"


class Indexed(Dataset):
    """A data set whose items come with their index: `(index, item)`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


class IndexedCollator:
    """Makes the batches that a collator makes, with the samples' indices as `sample_index`.

    Args:
        collator: Makes batches of an `Indexed` data set's items.
    """

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, items: list[tuple[int, Any]]) -> dict[str, Any]:
        batch = self.collator([item for _, item in items])
        batch[SAMPLE_INDEX] = torch.tensor([index for index, _ in items])
        return batch
