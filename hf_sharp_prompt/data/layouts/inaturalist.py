from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from ..catalogue import CatalogueEntry
from .image_files import Items, absolute, check_are_there, check_file, facts_of_folder, image_files
from .layout import Facts, Layout
from .long_tailed_lists import read_categories, sorted_by_name


SOURCE = "https://github.com/visipedia/inat_comp/tree/master/2018"
"""Where the images and their annotations are."""


class INaturalist(Layout):
    """The folder of iNaturalist 2018: `train2018.json` for training and `val2018.json` for testing.

    Images are in the order of the file. The classes have the names in `categories.json` if it is there, or else those
    in the two files. They are numbered by their names, as LIFT's code numbers them.
    """

    description = "the folder of iNaturalist 2018, with train2018.json and val2018.json"

    def recognises(self, source: str) -> bool:
        return (Path(source).expanduser() / "train2018.json").is_file()

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root = absolute(entry.source)
        splits = {}
        names: list[str] = []
        for split, file in (("train", "train2018.json"), ("test", "val2018.json")):
            check_file(root / file, entry.source, f"It is at {SOURCE}.")
            splits[split], names_of_file = _read_annotations(root / file)
            check_are_there({split: splits[split]}, root / file, entry.source)
            names = names or names_of_file
        if (root / "categories.json").is_file():
            names = read_categories(root / "categories.json")
        for split, items in splits.items():
            if (highest := max(items.labels, default=0)) >= len(names):
                raise ValueError(
                    f"The {split} split of {entry.source} has a category {highest}, but only {len(names)} "
                    "categories have names; use the files of one release."
                )
        return image_files(*sorted_by_name(splits, names), entry.source)

    def facts(self, entry: CatalogueEntry) -> Facts:
        categories = absolute(entry.source) / "categories.json"
        names = sorted({*read_categories(categories)}) if categories.is_file() else None
        return facts_of_folder("iNaturalist18", names)


def _read_annotations(path: Path) -> tuple[Items, list[str]]:
    """Read the images of a file, and the names of its categories by id."""
    try:
        listed: Any = json.loads(path.read_text(encoding="utf-8"))
        label_of = {each["image_id"]: int(each["category_id"]) for each in listed["annotations"]}
        images = [(f"{path.parent}/{each['file_name']}", label_of[each["id"]]) for each in listed["images"]]
        categories = {int(each["id"]): str(each["name"]) for each in listed.get("categories", ())}
        names = [categories[label] for label in range(len(categories))]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no file of iNaturalist's annotations: it must have images, annotations and categories "
            f"({type(error).__name__}: {error}). Download it again from {SOURCE}."
        ) from error
    return Items([image for image, _ in images], [label for _, label in images]), names
