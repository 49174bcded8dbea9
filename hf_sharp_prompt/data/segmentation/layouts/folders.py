from __future__ import annotations

from pathlib import Path

from ....class_names import read_class_names
from ...labels import shortened
from ...layouts.class_folders import EXTENSIONS
from ...layouts.split_names import named_splits
from .layout import MaskLayout, Masks, Pair, absolute, pairs_data


IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "annotations", "labels", "SegmentationClass")
NAMES_FILES = ("classes.txt", "class_names.txt", "labels.txt", "names.txt", "classes.json")


class Folders(MaskLayout):
    """A folder with a folder of images and one of masks, in one folder per split, or the other way round, or without.

    An image and its mask have the same name but for the ending, or the mask's ends in `_mask`, `-mask` or
    `_labelIds`. Names are in the file `classes.txt`, one on each line in the order of the pixel values.
    """

    description = "a folder with a folder images and a folder masks, whose files have the same names"

    def recognises(self, source: str) -> bool:
        return bool(_find_folders(absolute(source)))

    def read(self, source: str) -> Masks:
        root = absolute(source)
        splits = {split: match_by_name(*folders, source) for split, folders in _find_folders(root).items()}
        file = next((root / name for name in NAMES_FILES if (root / name).is_file()), None)
        names = None if file is None else read_class_names(file)
        return Masks(pairs_data(splits), _by_value(names, file) if isinstance(names, dict) else names)


def match_by_name(images: Path, masks: Path, source: str) -> list[Pair]:
    """Find the mask of each image.

    Args:
        images: The folder of images.
        masks: The folder of masks.
        source: The data set, for errors.

    Raises:
        ValueError: No images, images without a mask, or masks without an image.
    """
    files = {path.relative_to(images).with_suffix(""): path for path in _pictures(images)}
    found = {_without_ending(path.relative_to(masks)): path for path in _pictures(masks)}
    if not files:
        raise ValueError(f"{source} has no images; they were looked for in {images}.")
    for what, kind, lacking in (
        ("images", "mask", sorted(str(files[name]) for name in files.keys() - found.keys())),
        ("masks", "image", sorted(str(found[name]) for name in found.keys() - files.keys())),
    ):
        if lacking:
            raise ValueError(
                f"{len(lacking)} of the {what} of {source} have no {kind}: {shortened(lacking)}. Name an image and "
                "its mask alike, or remove what has no other half."
            )
    return [Pair(files[name], found[name]) for name in sorted(files)]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.name[0] != ".")


def _without_ending(mask: Path) -> Path:
    name = mask.with_suffix("").name
    for ending in ("_mask", "-mask", "_labelIds", "_labels"):
        name = name.removesuffix(ending)
    return mask.with_name(name)


def _find_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return by split the folder of images and the folder of masks."""
    if not root.is_dir():
        return {}
    both = _image_and_mask_folders(root)
    below = [path for path in sorted(root.iterdir()) if path.is_dir()]
    if both is None:
        found = {path: _image_and_mask_folders(path) for path in below}
        return {split: each for path, each in found.items() if each and (split := _split_of(path))}
    images, masks = both
    splits = {split: path for path in sorted(images.iterdir()) if path.is_dir() and (split := _split_of(path))}
    by_split = {split: (path, masks / path.name) for split, path in splits.items() if (masks / path.name).is_dir()}
    return by_split or {"train": both}


def _image_and_mask_folders(root: Path) -> tuple[Path, Path] | None:
    images = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    masks = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    return None if images is None or masks is None else (images, masks)


def _split_of(folder: Path) -> str | None:
    return next(iter(named_splits(folder.name)), None)


def _by_value(names: dict[str, str], file: Path | None) -> list[str]:
    if not all(value.isdecimal() for value in names):
        raise ValueError(f"{file} must have the pixel values of masks as its keys, or be a list of names.")
    by_value = {int(value): name for value, name in names.items()}
    return [by_value.get(value, f"unnamed {value}") for value in range(max(by_value) + 1)]
