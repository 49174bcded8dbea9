from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from datasets import DatasetDict

from ..catalogue import CatalogueEntry
from .image_files import Items, absolute, check_are_there, check_file, facts_of_folder, image_files, read_lines
from .layout import Facts, Layout


logger = logging.getLogger(__name__)

INSTRUCTIONS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
"""How the authors of CoOp lay data sets out, with links to their split files."""

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""Usual name of a split → its name in CoOp's files."""


class SplitFolder(NamedTuple):
    """Where the files of a data set are, below its folder."""

    images: str
    split_file: str


SPLIT_FOLDERS = {
    "caltech-101": SplitFolder("101_ObjectCategories", "split_zhou_Caltech101.json"),
    "dtd": SplitFolder("images", "split_zhou_DescribableTextures.json"),
    "eurosat": SplitFolder("2750", "split_zhou_EuroSAT.json"),
    "food-101": SplitFolder("images", "split_zhou_Food101.json"),
    "oxford_flowers": SplitFolder("jpg", "split_zhou_OxfordFlowers.json"),
    "oxford_pets": SplitFolder("images", "split_zhou_OxfordPets.json"),
    "stanford_cars": SplitFolder("", "split_zhou_StanfordCars.json"),
    "sun397": SplitFolder("SUN397", "split_zhou_SUN397.json"),
    "ucf101": SplitFolder("UCF-101-midframes", "split_zhou_UCF101.json"),
}
"""CoOp's folder of a data set → its files."""

IMAGE_FOLDERS_OF_CARS = ("cars_train", "cars_test")


class CoOpSplits(Layout):
    """A folder of a data set as CoOp's code lays it out, whose `split_zhou_….json` lists the images of all splits.

    The file decides everything: the images of each split, their order, labels and class names. Without it CoOp's code
    makes such a file by chance, and no two users have the same one; so it has to be downloaded.
    """

    description = "CoOp's folder of a data set, with its split_zhou_….json"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        if any((path / files.split_file).is_file() for files in SPLIT_FOLDERS.values()):
            return True
        return path.is_dir() and path.name in SPLIT_FOLDERS and _has_images(path)

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root = absolute(entry.source)
        files = _files(root)
        warn_of_pickles(root)
        splits, names = _read_split_file(root, files, entry.source)
        check_are_there(splits, root / files.split_file, entry.source)
        return image_files(splits, names, entry.source)

    def facts(self, entry: CatalogueEntry) -> Facts:
        root = absolute(entry.source)
        files = _files(root)
        folder = next(folder for folder, known in SPLIT_FOLDERS.items() if known == files)
        return facts_of_folder(folder, _read_split_file(root, files, entry.source)[1])


def _has_images(path: Path) -> bool:
    images = SPLIT_FOLDERS[path.name].images
    return any((path / name).is_dir() for name in ([images] if images else IMAGE_FOLDERS_OF_CARS))


def _files(root: Path) -> SplitFolder:
    """Find the files by the split file that is there, or else by the name of the folder."""
    there = [files for files in SPLIT_FOLDERS.values() if (root / files.split_file).is_file()]
    return there[0] if there else SPLIT_FOLDERS[root.name]


def _read_split_file(root: Path, files: SplitFolder, source: str) -> tuple[dict[str, Items], list[str]]:
    path = root / files.split_file
    check_file(path, source, f"Download it: {INSTRUCTIONS} links to it. CoOp's own code would draw a split by chance.")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        rows = {split: [(str(f), int(y), str(name)) for f, y, name in listed[key]] for split, key in SPLITS.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no split file of CoOp: it must map train, val and test to lists of [path, label, name] "
            f"({type(error).__name__}: {error}). Download it again: {INSTRUCTIONS} links to it."
        ) from error
    images = str(root / files.images)
    splits = {
        split: Items([os.path.join(images, image) for image, _, _ in items], [label for _, label, _ in items])
        for split, items in rows.items()
    }
    return splits, _names_by_label(((y, name) for items in rows.values() for _, y, name in items), path)


def _names_by_label(labelled: Iterable[tuple[int, str]], listed_in: Path) -> list[str]:
    """Return the names by label; each label must have one name, and labels must go from 0 on."""
    names: dict[int, str] = {}
    for label, name in labelled:
        if names.setdefault(label, name) != name:
            raise ValueError(
                f"In {listed_in}, label {label} has two names, {names[label]!r} and {name!r}; correct it."
            )
    if sorted(names) != list(range(len(names))):
        absent = sorted({*range(max(names, default=0) + 1)} - {*names})
        what = f"no image has label {absent[0]}" if absent else f"there is a label {min(names)}"
        raise ValueError(f"In {listed_in}, labels must go from 0 on without a gap, but {what}; correct it.")
    return [names[label] for label in range(len(names))]


@cache
def warn_of_pickles(root: Path) -> None:
    """Say once that the few-shot samples that CoOp's code stored are not read.

    Args:
        root: The data set's folder.
    """
    stored = [*root.glob("split_fewshot/*.pkl"), *root.glob("preprocessed.pkl")]
    if stored:
        logger.warning(
            f"{len(stored)} pickle files of CoOp's code in {root} are not read, since reading one can run any code; "
            "the same samples are drawn from the images and the seed."
        )


class CoOpAircraft(Layout):
    """CoOp's folder of FGVC Aircraft: the `data/` of the original archive, whose text files list the splits."""

    description = "CoOp's folder of FGVC Aircraft, with its images_variant_train.txt"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        if (path / "images_variant_train.txt").is_file():
            return True
        return path.name == "fgvc_aircraft" and (path / "images").is_dir()

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root = absolute(entry.source)
        warn_of_pickles(root)
        names = self._read_names(root, entry.source)
        splits = {}
        for split, key in SPLITS.items():
            path = root / f"images_variant_{key}.txt"
            splits[split] = self._read_split(path, {name: y for y, name in enumerate(names)}, entry.source)
            check_are_there({split: splits[split]}, path, entry.source)
        return image_files(splits, names, entry.source)

    def facts(self, entry: CatalogueEntry) -> Facts:
        return facts_of_folder("fgvc_aircraft", self._read_names(absolute(entry.source), entry.source))

    @staticmethod
    def _read_names(root: Path, source: str) -> list[str]:
        lines = read_lines(root / "variants.txt", source, f"It is in the archive that {INSTRUCTIONS} links to.")
        return [line.strip() for line in lines]

    @staticmethod
    def _read_split(path: Path, label_of: Mapping[str, int], source: str) -> Items:
        items = Items([], [])
        for line in read_lines(path, source, f"It is in the archive that {INSTRUCTIONS} links to."):
            image, _, name = line.strip().partition(" ")
            if name not in label_of:
                raise ValueError(f"{path} has {name!r}, no class that variants.txt lists; download both again.")
            items.paths.append(str(path.parent / "images" / f"{image}.jpg"))
            items.labels.append(label_of[name])
        return items
