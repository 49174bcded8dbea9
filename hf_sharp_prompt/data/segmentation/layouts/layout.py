from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset, DatasetDict, Features, Image


class Pair(NamedTuple):
    """The files of an image and its mask."""

    image: Path
    mask: Path


class Masks(NamedTuple):
    """What a layout reads.

    Args:
        splits: Splits with a column of images and one of masks.
        names: The name of each pixel value; None if the data do not say.
    """

    splits: DatasetDict
    names: list[str] | None = None


class MaskLayout(ABC):
    """A way in which images and their masks are stored.

    Attributes:
        description: What the user has, for errors: "a folder as of Pascal VOC".
    """

    description: str

    @abstractmethod
    def recognises(self, source: str) -> bool:
        """Tell whether data are stored in this way. Do not read images, and do not ask the network."""

    @abstractmethod
    def read(self, source: str) -> Masks:
        """Read which images and masks there are.

        Raises:
            ValueError: The data cannot be read; the message says which file, and what to do.
        """


def pairs_data(splits: Mapping[str, Sequence[Pair]]) -> DatasetDict:
    """Make a data set of files; none is opened."""
    features = Features({"image": Image(decode=False), "mask": Image(decode=False)})
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    "image": [{"path": str(pair.image), "bytes": None} for pair in pairs],
                    "mask": [{"path": str(pair.mask), "bytes": None} for pair in pairs],
                },
                features,
            )
            for split, pairs in splits.items()
        }
    )


def absolute(source: str) -> Path:
    """Return the absolute path of a folder; links are not followed."""
    return Path(source).expanduser().absolute()
