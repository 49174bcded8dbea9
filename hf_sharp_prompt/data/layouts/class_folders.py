from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from datasets import DatasetDict
from datasets.data_files import SPLIT_KEYWORDS
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as ImageFolderBuilder

from ..catalogue import CatalogueEntry
from ..class_names import check_distinct, in_words
from ..labels import shortened
from .image_files import Items, absolute, image_files
from .layout import Layout
from .split_names import named_splits


logger = logging.getLogger(__name__)

EXTENSIONS = frozenset(ImageFolderBuilder.EXTENSIONS)
UNREADABLE = frozenset({".heic", ".heif", ".avif", ".jxl", ".svg", ".dng", ".nef", ".cr2", ".arw"}) - EXTENSIONS
"""How names of images end that Pillow does not read."""
LISTS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"})
"""How names of files end that may list images and labels."""


class ImageFile(NamedTuple):
    """An image: its path below the data set's folder, and the folders that may name its split and its class."""

    path: str
    folders: tuple[str, ...]

    @property
    def first_folder(self) -> str:
        return self.folders[0] if self.folders else ""

    def below_first_folder(self) -> ImageFile:
        return self._replace(folders=self.folders[1:])


class ClassFolders(Layout):
    """A folder with one folder of images per class, in one folder per split or without splits.

    A folder is a split's if a word of its name says so, as in `train`, `val2017` or `seg_test`, and if its images are
    in folders themselves. Class folders may be nested: `church/outdoor` is the class "church outdoor". A folder that
    only wraps all others, as in `photos/photos`, names nothing. What starts with `.` or `__` is passed over.
    """

    description = "a folder with one folder of images per class, in one folder per split or without splits"

    def recognises(self, source: str) -> bool:
        return Path(source).expanduser().is_dir()

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        root = absolute(entry.source)
        images = find_images(root)
        if not images:
            raise ValueError(
                f"{entry.source} is no folder of images: there is no image file in it. It holds: "
                f"{shortened(sorted(path.name for path in root.iterdir())) or 'nothing'}."
            )
        _warn_of_other_images(root, entry.source)
        splits = without_wrappers(find_splits(images, entry.source))
        classes = find_classes(splits, entry.source)
        lists = sorted(path.name for path in root.iterdir() if path.suffix.lower() in LISTS)
        if len(classes) == 1 and lists:
            raise ValueError(
                f"{entry.source} has all its images in one folder, {next(iter(classes.values()))!r}; if {lists[0]} "
                f"says their labels, give {entry.source.rstrip('/')}/{lists[0]} as the data set."
            )
        label_of = {folders: label for label, folders in enumerate(classes)}
        items = {
            split: Items([f"{root}/{image.path}" for image in images], [label_of[image.folders] for image in images])
            for split, images in splits.items()
        }
        return image_files(items, list(classes.values()), entry.source)


def find_images(root: Path) -> list[ImageFile]:
    """Find all image files below a folder, sorted by their paths."""
    found = []
    for folder, names in walk_images(root):
        below = os.path.relpath(folder, root)
        folders = () if below == "." else tuple(below.split(os.sep))
        found += [ImageFile("/".join((*folders, name)), folders) for name in names]
    return sorted(found)


def _warn_of_other_images(root: Path, source: str) -> None:
    others = [
        name
        for _, _, names in os.walk(root, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in UNREADABLE
    ]
    if others:
        logger.warning(
            f"{len(others)} images of {source} are of a format that is not read and are left out, such as "
            f"{others[0]}; convert them to JPEG or PNG."
        )


def walk_images(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Go through the folders that have image files; hidden and special folders are passed over.

    Yields:
        A folder, and the names of the image files in it, in no order.
    """
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__"))]
        if names := [name for name in files if not name.startswith(".") and is_image(name)]:
            yield folder, names


def is_image(name: str) -> bool:
    """Tell by a file's name whether it is an image that Pillow can read."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def find_splits(images: list[ImageFile], source: str) -> dict[str, list[ImageFile]]:
    """Sort images by the splits that their first folders name; without such folders all are for training.

    Args:
        images: All images of the data set.
        source: The data set, for errors.

    Returns:
        Split → its images, whose `folders` begin below the split's.

    Raises:
        ValueError: A folder whose name stands for several splits; nothing but folders of splits without classes.
    """
    if _are_wrapped(images) and len(named_splits(images[0].first_folder)) != 1:
        return find_splits([image.below_first_folder() for image in images], source)
    inside: dict[str, list[ImageFile]] = {}
    for image in images:
        inside.setdefault(image.first_folder, []).append(image.below_first_folder())
    with_class_folders = [folder for folder, images in inside.items() if any(image.folders for image in images)]
    named = {folder: splits for folder in with_class_folders if (splits := named_splits(folder))}
    if named.keys() != inside.keys() and not any("train" in splits for splits in named.values()):
        _check_has_classes(inside, source)
        return {"train": images}
    for folder, splits in named.items():
        if len(splits) > 1:
            choice = " or the ".join(splits)
            raise ValueError(f"The folder {folder} of {source} may be the {choice} split; rename it to one of them.")
    if others := [image.path for folder, images in inside.items() if folder not in named for image in images]:
        logger.warning(f"{len(others)} images of {source} are in no split and are left out, such as {others[0]}.")
    return {
        str(split): [image for folder in named if named[folder] == [split] for image in inside[folder]]
        for split in SPLIT_KEYWORDS
        if [split] in named.values()
    }


def _check_has_classes(folders: Iterable[str], source: str) -> None:
    if all(map(named_splits, folders)):
        raise ValueError(
            f"The folders of {source} are named like splits ({shortened([*folders])}) but have no class folders; move "
            "each image into a folder named as its class."
        )


def without_wrappers(splits: dict[str, list[ImageFile]]) -> dict[str, list[ImageFile]]:
    """Drop a folder that holds all others of its split, if every split has one."""
    while all(map(_are_wrapped, splits.values())):
        splits = {split: [image.below_first_folder() for image in images] for split, images in splits.items()}
    return splits


def _are_wrapped(images: list[ImageFile]) -> bool:
    return len({image.folders[:1] for image in images}) == 1 and all(len(image.folders) > 1 for image in images)


def find_classes(splits: dict[str, list[ImageFile]], source: str) -> dict[tuple[str, ...], str]:
    """Name the classes by their folders, sorted; all splits have the same ones.

    Args:
        splits: Split → its images, whose `folders` are those of their class.
        source: The data set, for errors.

    Returns:
        Folders → name of the class.

    Raises:
        ValueError: Images in no class folder; several folders whose classes would have the same name.
    """
    images = [image for images in splits.values() for image in images]
    if stray := [image for image in images if not image.folders]:
        raise ValueError(
            f"{len(stray)} of {len(images)} images of {source} are in no class folder, such as {stray[0].path}; move "
            "each into a folder named as its class, or give the file that lists images and labels as the data set."
        )
    classes = {folders: " ".join(folders) for folders in sorted({image.folders for image in images})}
    check_distinct([in_words(name) for name in classes.values()], source)
    return classes
