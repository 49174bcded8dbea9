from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from datasets import Dataset, DatasetDict, DatasetInfo, Features
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
            entry: Where the data are (`source`, and for the Hub `config` and `revision`).

        Raises:
            ValueError: The data cannot be read; the message says which file, and what to do.
        """

    def facts(self, entry: CatalogueEntry) -> Facts:
        """What is known without reading the data.

        Args:
            entry: Where the data are.
        """
        return Facts()


def load(read: Callable[[], T], problem: str) -> T:
    """Call a function of `datasets`, and turn its errors into one sentence.

    Args:
        read: The call.
        problem: What is wrong if it fails, a sentence without its full stop.

    Raises:
        ValueError: The call failed.
    """
    try:
        return read()
    except (OSError, DatasetsError) as error:
        raise ValueError(f"{problem} ({error}).") from error
