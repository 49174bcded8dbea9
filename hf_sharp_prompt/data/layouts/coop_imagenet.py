from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from datasets import DatasetDict

from ..catalogue import CatalogueEntry
from .coop import INSTRUCTIONS, warn_of_pickles
from .image_files import Items, absolute, check_file, facts_of_folder, image_files, read_lines
from .imagenet_names import distinct_names, name_classes
from .layout import Facts, Layout


class ImageNetFolder(NamedTuple):
    """Where the images of a data set are, below its folder.

    Args:
        splits: Split → its folder, with one folder of images per class.
        numbered: The folders of classes are called by their label: 0, 1, 2, …
    """

    splits: dict[str, str]
    numbered: bool = False


FOLDERS = {
    "imagenet": ImageNetFolder({"train": "images/train", "test": "images/val"}),
    "imagenetv2": ImageNetFolder({"test": "imagenetv2-matched-frequency-format-val"}, numbered=True),
    "imagenet-sketch": ImageNetFolder({"test": "images"}),
    "imagenet-adversarial": ImageNetFolder({"test": "imagenet-a"}),
    "imagenet-rendition": ImageNetFolder({"test": "imagenet-r"}),
}
"""CoOp's folder of a data set → where its images are. The variants have only a test split."""


class CoOpImageNet(Layout):
    """ImageNet, and its variants V2, Sketch, A and R, in the folders of CoOp's code, named by `classnames.txt`.

    The classes are the folders that are there, sorted, so that -A and -R have their 200. The test split of ImageNet is
    its validation images. Images are sorted by name. CoOp's code takes them as the file system lists them, which
    differs between machines; few-shot samples are the same where the file system sorts by name.

    CoOp's list calls two classes "missile" and two "sunglasses". One of each gets its name in WordNet, "projectile"
    and "sunglass", because no classifier can tell two classes of one name apart.
    """

    description = "CoOp's folder of ImageNet, V2, Sketch, A or R, with its classnames.txt"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        known = FOLDERS.get(path.name)
        return known is not None and any((path / folder).is_dir() for folder in known.splits.values())

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root = absolute(entry.source)
        known = FOLDERS[root.name]
        warn_of_pickles(root)
        name_of = _read_names(root, entry.source)
        classes = _find_classes(root, known, name_of, entry.source)
        splits = {
            split: _list_images(root / folder, [str(y) for y in range(len(classes))] if known.numbered else classes)
            for split, folder in known.splits.items()
        }
        return image_files(splits, distinct_names(classes, name_of), entry.source)

    def facts(self, entry: CatalogueEntry) -> Facts:
        root = absolute(entry.source)
        name_of = _read_names(root, entry.source)
        classes = _find_classes(root, FOLDERS[root.name], name_of, entry.source)
        return facts_of_folder(root.name, distinct_names(classes, name_of))


def _read_names(root: Path, source: str) -> dict[str, str]:
    """Read WordNet id → name from `classnames.txt`, here or in the folder `imagenet` beside this one."""
    beside = root.parent / "imagenet" / "classnames.txt"
    path = root / "classnames.txt"
    path = beside if beside.is_file() and not path.exists() else path
    lines = read_lines(path, source, f"Download it: {INSTRUCTIONS} links to it.")
    return name_classes(lines)


def _find_classes(root: Path, known: ImageNetFolder, name_of: dict[str, str], source: str) -> list[str]:
    """Return the WordNet ids of the classes, by label."""
    for folder in known.splits.values():
        check_file(root / folder, source, f"{INSTRUCTIONS} says how the folders are laid out.")
    if known.numbered:
        numbered = root / known.splits["test"]
        for label in range(len(name_of)):
            check_file(numbered / str(label), source, f"classnames.txt has {len(name_of)} classes; add their images.")
        return list(name_of)
    classes = {split: _list_folders(root / folder) for split, folder in known.splits.items()}
    first, *others = classes
    for split in others:
        if different := sorted({*classes[first]} ^ {*classes[split]}):
            raise ValueError(
                f"In {source}, the folder {different[0]} is in only one of {known.splits[first]} and "
                f"{known.splits[split]}; both need the same classes."
            )
    if unnamed := [wnid for wnid in classes[first] if wnid not in name_of]:
        raise ValueError(
            f"In {source}, classnames.txt has no name for {len(unnamed)} of the folders of classes, such as "
            f"{unnamed[0]}; add its line, or remove the folder."
        )
    return classes[first]


def _list_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as found:
        return sorted(each.name for each in found if each.is_dir() and not each.name.startswith("."))


def _list_images(folder: Path, classes: Iterable[str]) -> Items:
    items = Items([], [])
    for label, name in enumerate(classes):
        images = sorted(image for image in os.listdir(folder / name) if not image.startswith("."))
        items.paths.extend(f"{folder}/{name}/{image}" for image in images)
        items.labels.extend([label] * len(images))
    return items
