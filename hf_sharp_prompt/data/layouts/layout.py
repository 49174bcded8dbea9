from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetDict, DatasetInfo, Features, IterableDatasetDict
from datasets.exceptions import DatasetsError

from ..catalogue import CatalogueEntry


T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What is known about a data set without reading its images; None where it is not known.

    Args:
        features: The columns, with the names of the classes where the label is a `ClassLabel`.
        template: The hand-written prompt, with `{}` for the name of a class.
        license: The licence.
        citation: The BibTeX entry.
    """

    features: Features | None = None
    template: str | None = None
    license: str | None = None
    citation: str | None = None

    @classmethod
    def from_info(cls, info: DatasetInfo) -> Facts:
        """The facts that `datasets` knows; it has an empty text where it knows none."""
        return cls(info.features or None, None, info.license or None, info.citation or None)


class Layout(ABC):
    """A way in which data sets are stored.

    Attributes:
        description: What the user has, for errors and lists: "a folder with one folder of images per class".
    """

    description: str

    @abstractmethod
    def recognises(self, source: str) -> bool:
        """Tell whether data are stored in this way. Do not read images, and do not ask the network.

        Args:
            source: What the user named: a path, a Hub id, or a name that this layout knows.
        """

    @abstractmethod
    def read(self, entry: CatalogueEntry) -> Dataset | DatasetDict:
        """Read the data as they are: any columns, any splits; one data set without splits is a training split.

        Args:
            entry: Where the data are (`source`, and for the Hub `config` and `revision`), and the columns that the
                user or the catalogue names (`image_column`, `label_column`), where files have to be found by them.

        Raises:
            ValueError: The data cannot be read; the message says which file, and what to do.
        """

    def stream(self, entry: CatalogueEntry) -> IterableDatasetDict:
        """Read the data while they are iterated over, as far as the layout can.

        Args:
            entry: As of `read`.

        Raises:
            ValueError: As of `read`.
        """
        data = self.read(entry)
        splits = data if isinstance(data, DatasetDict) else DatasetDict(train=data)
        return IterableDatasetDict({name: split.to_iterable_dataset() for name, split in splits.items()})

    def facts(self, entry: CatalogueEntry) -> Facts:
        """What is known without reading the data.

        Args:
            entry: Where the data are.
        """
        return Facts()


READ_ERRORS: tuple[type[Exception], ...] = (OSError, DatasetsError, pa.ArrowException)
"""What `datasets` raises where data cannot be read."""


def load(read: Callable[[], T], problem: str, errors: tuple[type[Exception], ...] = READ_ERRORS) -> T:
    """Call a function of `datasets`, and turn its errors into one sentence.

    Args:
        read: The call.
        problem: What is wrong if it fails, a sentence without its full stop.
        errors: The errors that mean this.

    Raises:
        ValueError: The call failed.
    """
    try:
        return read()
    except errors as error:
        raise ValueError(f"{problem} ({error}).") from error
