"""What measuring asks of each kind of labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import datasets
import torch
from accelerate import PartialState
from rich.table import Table

from ... import progress
from ...data import SkippedImage
from ..in_order import Answers, Unread, answers_in_order
from ..predictor import Predictor


class Measurement(ABC):
    """A data set to measure on.

    Args:
        dataset: As a loader of data takes it.
        split: The split's name; None for the test split, or for the only one.
        **loading: Further arguments of the loader.

    Attributes:
        options: The names of the arguments of the command that loading takes.
        name: The split's name.
        rows: Its images and their labels.
        skipped: Its images that are left out because they cannot be read.

    Raises:
        ValueError: There is no such split, or none of several is named; the data set cannot be loaded; an argument
            that loading does not take.
    """

    options: ClassVar[frozenset[str]]

    def __init__(self, dataset: str, split: str | None, **loading: Any) -> None:
        if unread := sorted(loading.keys() - self.options):
            raise ValueError(f"--{unread[0]} is not for data of this adapter's task; drop it.")
        skipped: list[SkippedImage] = []
        with PartialState().local_main_process_first():
            splits = self.load(dataset, skipped, **loading)
        self.name = split or ("test" if len(splits) > 1 else next(iter(splits)))
        if self.name not in splits:
            raise ValueError(f"{dataset} has no {self.name} split; it has {', '.join(splits)}. Name one with --split.")
        self.rows: datasets.Dataset = splits[self.name]
        self.skipped = [image for image in skipped if image.split == self.name]

    @abstractmethod
    def load(self, dataset: str, skipped: list[SkippedImage], **loading: Any) -> datasets.DatasetDict:
        """Load the data set, without making a test split; images that are left out are added to `skipped`."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """The names of the classes, by label."""

    @abstractmethod
    def measure(
        self, predictor: Predictor[Any, Any], batch_size: int, num_workers: int | None = None
    ) -> dict[str, Any]:
        """Measure.

        Args:
            predictor: The model with its adapter, whose classes include the data set's.
            batch_size: Images that the model takes at a time.
            num_workers: Processes that read images; chosen by default.

        Returns:
            The number of `images`, and results, from 0 to 1, None where there is nothing to measure on.

        Raises:
            ValueError: An image that cannot be read; no images.
        """

    @abstractmethod
    def make_table(self, measured: dict[str, Any]) -> Table:
        """Make a table of what `measure` returns, in percent."""


class AsksForRows:
    """What answers rows, images with their labels, has in common: rows are read as batches of one.

    Args:
        predictor: The model with its adapter.
        collator: Makes batches of rows.
    """

    def __init__(
        self,
        predictor: Predictor[Any, Any],
        collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    ) -> None:
        self.predictor, self.collator = predictor, collator

    def keeping_class_features(self) -> AbstractContextManager[None]:
        return self.predictor.keeping_class_features()

    @property
    def read(self) -> Callable[[dict[str, Any]], dict[str, torch.Tensor]]:
        return partial(read_row, self.collator)


def read_row(
    collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]], row: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Return the batch of a row."""
    return collator([row])


def answers_of(
    asked: Answers[Any, Any], examples: Sequence[Any], batch_size: int, num_workers: int | None
) -> list[Any]:
    """Return the answers to all examples.

    Raises:
        ValueError: One cannot be read; there are none.
    """
    if not len(examples):
        raise ValueError("There are no images to measure on; name another split with --split.")
    found = []
    for number, answer in enumerate(answers_in_order(asked, examples, batch_size, num_workers), start=1):
        if isinstance(answer, Unread):
            raise ValueError(answer.reason)
        found.append(answer)
        progress.report("measuring", number, len(examples))
    return found


def in_percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
