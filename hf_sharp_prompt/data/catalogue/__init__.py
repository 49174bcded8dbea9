"""Data sets by name: where they are, what their classes are called, and how a prompt for them reads.

Each YAML file in this folder is one data set, called as the file; its keys are the fields of [`CatalogueEntry`]. An
entry of your own is added with [`add`], or is a YAML file anywhere whose path is given as the data set.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from .entry import CatalogueEntry, read_entry


__all__ = ["CatalogueEntry", "add", "find", "names"]

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


def find(dataset: str) -> CatalogueEntry:
    """Find the entry of a data set.

    Args:
        dataset: A name of the catalogue, the path of a YAML file with an entry, or what a layout recognises.

    Returns:
        The entry; for data that are not in the catalogue one that says only where they are.

    Raises:
        ValueError: A YAML file that is no entry.
    """
    path = Path(dataset).expanduser()
    if dataset in names():
        if path.exists():
            logger.warning(f"{dataset} is taken as the data set of that name; for the folder give ./{dataset}.")
        return ADDED.get(dataset) or _read_shipped(dataset)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return read_entry(path)
    return CatalogueEntry(name=dataset, source=dataset)


@cache
def _read_shipped(name: str) -> CatalogueEntry:
    return read_entry(FOLDER / f"{name}.yaml")
