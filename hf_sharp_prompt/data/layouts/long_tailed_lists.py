from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from datasets import DatasetDict

from ..catalogue import CatalogueEntry
from .image_files import Items, absolute, check_are_there, facts_of_folder, image_files, read_lines
from .imagenet_names import distinct_names, name_classes
from .layout import Facts, Layout


LISTS = {
    "ImageNet_LT": {"train": "train", "validation": "val", "test": "test"},
    "Places_LT": {"train": "train", "validation": "val", "test": "test"},
    "iNaturalist18": {"train": "train", "test": "val"},
}
"""Beginning of the lists' names → usual name of a split → end of its list's name. iNaturalist is tested on `val`."""

SOURCE = "https://github.com/shijxcs/LIFT/tree/main/datasets"
"""Where the lists and the names of the classes are."""


class LongTailedLists(Layout):
    """A folder of images with a list for each split, such as `ImageNet_LT_train.txt`: a path and a label on each line.

    The lists are in the folder of the images, or below it in `ImageNet_LT/` (or the like) or `data_txt/`. Paths begin
    at the folder of the images. A file beside the lists names the classes: `classnames.txt`, line after line, with a
    word before each name; or `categories.json`, whose names LIFT's code sorts and numbers. Without these files,
    classes are called as the folders of their images.
    """

    description = "a folder with lists of images and labels: ImageNet_LT_train.txt, Places_LT_… or iNaturalist18_…"

    def recognises(self, source: str) -> bool:
        return _find_lists(Path(source).expanduser()) is not None

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root, lists, prefix = _locate(entry.source)
        splits: dict[str, Items] = {}
        for split, ending in LISTS[prefix].items():
            path = lists / f"{prefix}_{ending}.txt"
            if split == "validation" and not path.is_file():
                continue
            splits[split] = _read_list(path, root, entry.source)
            check_are_there({split: splits[split]}, path, entry.source)
        names = _names_of_lists(lists) or _names_of_folders(splits, entry.source)
        _check_labels(splits, len(names), entry.source)
        return image_files(*_sorted_if_categories(splits, names, lists), entry.source)

    def facts(self, entry: CatalogueEntry) -> Facts:
        _, lists, prefix = _locate(entry.source)
        names = _names_of_lists(lists)
        if (lists / "categories.json").is_file():
            names = sorted({*names})
        return facts_of_folder(prefix, names or None)


def _find_lists(root: Path) -> tuple[Path, str] | None:
    """Find the folder of the lists, and how their names begin."""
    for prefix in LISTS:
        for folder in (root, root / prefix, root / "data_txt"):
            if (folder / f"{prefix}_train.txt").is_file():
                return folder, prefix
    return None


def _locate(source: str) -> tuple[Path, Path, str]:
    root = absolute(source)
    found = _find_lists(root)
    if found is None:
        raise ValueError(f"{source} has no list such as ImageNet_LT_train.txt; it was looked for in {root}.")
    return root, *found


def _read_list(path: Path, root: Path, source: str) -> Items:
    items = Items([], [])
    for number, line in enumerate(read_lines(path, source, f"It is at {SOURCE}."), start=1):
        image, _, label = line.strip().rpartition(" ")
        if not image or not label.isdecimal():
            raise ValueError(f"Line {number} of {path} must be a path, a space and a label, got {line.strip()!r}.")
        items.paths.append(f"{root}/{image.strip()}")
        items.labels.append(int(label))
    return items


def _names_of_lists(lists: Path) -> list[str]:
    """Read the names beside the lists, by the lists' labels; none if there is no such file."""
    if (path := lists / "categories.json").is_file():
        return read_categories(path)
    if (path := lists / "classnames.txt").is_file():
        name_of = name_classes(path.read_text(encoding="utf-8").splitlines())
        return distinct_names(name_of, name_of)
    return []


def read_categories(path: Path) -> list[str]:
    """Read the names of iNaturalist's categories.

    Args:
        path: A JSON list of objects with `id` and `name`.

    Returns:
        The names by id.

    Raises:
        ValueError: It is no such list.
    """
    try:
        categories = {int(each["id"]): str(each["name"]) for each in json.loads(path.read_text(encoding="utf-8"))}
        return [categories[label] for label in range(len(categories))]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a list of categories with id, from 0 on, and name ({type(error).__name__}: {error}); "
            f"download it again from {SOURCE}/iNaturalist18."
        ) from error


def _names_of_folders(splits: dict[str, Items], source: str) -> list[str]:
    """Name each label by the folder of its images."""
    folders: dict[int, str] = {}
    for items in splits.values():
        for path, label in zip(items.paths, items.labels, strict=True):
            folder = os.path.basename(os.path.dirname(path))
            if folders.setdefault(label, folder) != folder:
                raise ValueError(
                    f"The images of label {label} of {source} are in several folders, {folders[label]!r} and "
                    f"{folder!r}, so that it has no name; put classnames.txt from {SOURCE} beside the lists."
                )
    return [folders.get(label, str(label)) for label in range(max(folders, default=-1) + 1)]


def _check_labels(splits: dict[str, Items], num_names: int, source: str) -> None:
    for split, items in splits.items():
        if (highest := max(items.labels, default=0)) >= num_names:
            raise ValueError(
                f"The {split} list of {source} has a label {highest}, but only {num_names} classes have names; use "
                "the lists and names of one data set."
            )


def _sorted_if_categories(
    splits: dict[str, Items], names: list[str], lists: Path
) -> tuple[dict[str, Items], Sequence[str]]:
    return sorted_by_name(splits, names) if (lists / "categories.json").is_file() else (splits, names)


def sorted_by_name(splits: dict[str, Items], names: Sequence[str]) -> tuple[dict[str, Items], list[str]]:
    """Number the classes by their names, as LIFT's code does for iNaturalist; equal names become one class.

    Args:
        splits: Split → its images.
        names: The names of the classes, by label.

    Returns:
        The images with their new labels, and the names, sorted.
    """
    ordered = sorted({*names})
    number_of = {name: number for number, name in enumerate(ordered)}
    new = [number_of[name] for name in names]
    return {split: Items(items.paths, [new[y] for y in items.labels]) for split, items in splits.items()}, ordered
