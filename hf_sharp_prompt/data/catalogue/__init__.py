"""Data sets by name: where they are, what their classes are called, and how a prompt for them reads.

Each YAML file in this folder is one data set, called as the file; its keys are the fields of [`CatalogueEntry`]. An
entry of your own is added with [`add`], or is a YAML file anywhere whose path is given as the data set.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from .entry import CatalogueEntry, read_entry


__all__ = ["CatalogueEntry", "add", "find", "find_by_folder", "find_entry", "names"]

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent

ADDED: dict[str, CatalogueEntry] = {}
"""The entries that were added in this process, by name. They take precedence over the files."""


def add(entry: CatalogueEntry) -> None:
    """Add a data set, so that its name can be used wherever a data set is named.

    Args:
        entry: The data set. It replaces one of the same name.

    Raises:
        ValueError: The name is empty or has a `/` in it.

    Example:
        ```py
        >>> catalogue.add(CatalogueEntry("my_pets", source="~/photos", template="a photo of a {}, a type of pet."))
        >>> splits = load_image_dataset("my_pets")
        ```
    """
    if not entry.name or "/" in entry.name:
        raise ValueError(f"A data set is named by one word without slashes, got {entry.name!r}.")
    ADDED[entry.name] = entry


def names() -> list[str]:
    """The names of all data sets of the catalogue, sorted."""
    return sorted({path.stem for path in FOLDER.glob("*.yaml")} | ADDED.keys())


def find(dataset: str, data_root: str | Path | None = None) -> CatalogueEntry:
    """Find the entry of a data set.

    Args:
        dataset: A name of the catalogue, the path of a YAML file with an entry, or what a layout recognises.
        data_root: The folder that has the data sets' folders, called as in CoOp's code: `oxford_pets`, `caltech-101`.
            By default a named data set is read from the Hub.

    Returns:
        The entry; for data that are not in the catalogue one that says only where they are.

    Raises:
        ValueError: A YAML file that is no entry; a data set that is not in `data_root`, or that needs one.
    """
    path = Path(dataset).expanduser()
    if data_root is not None:
        entry = find_entry(dataset) if dataset in names() else CatalogueEntry(dataset, source="", folders=[dataset])
        return entry.below(data_root)
    if dataset in names():
        if path.exists():
            logger.warning(f"{dataset} is taken as the data set of that name; for the folder give ./{dataset}.")
        entry = find_entry(dataset)
        if not entry.source:
            raise ValueError(
                f"{dataset} can only be read from a folder; give data_root, the folder that has {entry.folders[0]}/."
            )
        return entry
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return read_entry(path)
    return CatalogueEntry(name=dataset, source=dataset)


def find_by_folder(folder: str) -> CatalogueEntry:
    """Find the entry of a data set by the name of its folder.

    Args:
        folder: What the authors call the folder, such as `caltech-101`.

    Returns:
        The entry; for an unknown folder, an entry that says nothing else.
    """
    entries = (find_entry(name) for name in names())
    return next((each for each in entries if folder in each.folders), CatalogueEntry(folder, source=folder))


def find_entry(name: str) -> CatalogueEntry:
    """Return the entry of a name, which must be one of `names()`."""
    return ADDED.get(name) or _read_shipped(name)


@cache
def _read_shipped(name: str) -> CatalogueEntry:
    return read_entry(FOLDER / f"{name}.yaml")
