"""Make data sets of image files from their paths. No file is opened, so a million of them take seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, Image
from datasets.table import InMemoryTable

from ..catalogue import find_by_folder
from ..class_names import check_distinct
from ..labels import shortened
from .layout import Facts


class Items(NamedTuple):
    """The images of a split, in their order.

    Args:
        paths: Their paths.
        labels: Their labels.
    """

    paths: list[str]
    labels: list[int]


def image_files(splits: Mapping[str, Items], names: Sequence[str], source: str) -> DatasetDict:
    """Make a data set of image files.

    Args:
        splits: Split → its images.
        names: The names of the classes, by label.
        source: The data set, for the error.

    Returns:
        Splits with the columns `image`, which holds the path, and `label`.

    Raises:
        ValueError: Several classes have the same name.
    """
    check_distinct(names, source)
    features = Features({"image": Image(), "label": ClassLabel(names=list(names))})
    return DatasetDict({split: _table(items, features) for split, items in splits.items()})


def _table(items: Items, features: Features) -> Dataset:
    paths = pa.array(items.paths, pa.string())
    image = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], names=["bytes", "path"])
    table = InMemoryTable.from_pydict({"image": image, "label": pa.array(items.labels, pa.int64())})
    return Dataset(table, info=DatasetInfo(features=features))


def facts_of_folder(folder: str, names: Iterable[str] | None) -> Facts:
    """Return what is known about a data set of the papers: its class names, and what the catalogue says.

    Args:
        folder: What the authors call its folder.
        names: The names of the classes, by label; None if the data set must be read to know them.
    """
    known = find_by_folder(folder)
    features = None if names is None else Features({"image": Image(), "label": ClassLabel(names=list(names))})
    return Facts(features, known.template, known.license, known.citation)


def absolute(source: str) -> Path:
    """Return the absolute path of a folder; links are not followed."""
    return Path(os.path.abspath(Path(source).expanduser()))


def check_are_there(splits: Mapping[str, Items], listed_in: Path, source: str) -> None:
    """Check that all listed images exist; each folder is listed once.

    Args:
        splits: Split → its images.
        listed_in: The file that lists them, for the error.
        source: The data set, for the error.

    Raises:
        ValueError: Images that do not exist, with the path at which the first was looked for.
    """
    files_of: dict[str, set[str]] = {}
    missing = []
    for path in (path for items in splits.values() for path in items.paths):
        folder, name = os.path.split(path)
        if folder not in files_of:
            files_of[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in files_of[folder]:
            missing.append(path)
    if missing:
        total = sum(len(items.paths) for items in splits.values())
        raise ValueError(
            f"{len(missing)} of the {total} images of {source} that {listed_in.name} lists are not there; they were "
            f"looked for at {shortened(missing)}. Download the images, or link their folder to this place."
        )


def read_lines(path: Path, source: str, remedy: str) -> list[str]:
    """Read the lines of a text file that a layout needs, without the empty ones.

    Args:
        path: The file.
        source: The data set, for the error.
        remedy: What to do if it is missing: a sentence.

    Raises:
        ValueError: There is no such file, or it is not text.
    """
    check_file(path, source, remedy)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8 ({error}); replace it. {remedy}") from error
    return [line for line in text.splitlines() if line.strip()]


def check_file(path: Path, source: str, remedy: str) -> None:
    """Check that a file or folder that a layout needs exists.

    Raises:
        ValueError: It does not; the message says where it was looked for, and what to do.
    """
    if not path.exists():
        raise ValueError(f"{source} has no {path.name}; it was looked for at {path}. {remedy}")
