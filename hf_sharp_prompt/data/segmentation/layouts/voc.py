from __future__ import annotations

from pathlib import Path

from ...layouts.image_files import read_lines
from .layout import MaskLayout, Masks, Pair, absolute, pairs_data


NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train"),
    "tv monitor",
)
"""Pascal VOC's names by pixel value."""

SPLITS = {"train": "train", "validation": "val", "test": "test"}


class VOC(MaskLayout):
    """A folder as of Pascal VOC: `JPEGImages`, `SegmentationClass` and lists in `ImageSets/Segmentation`.

    It may be the folder of one year in `VOCdevkit`. `trainaug` is taken for training where there is such a list and
    `SegmentationClassAug`. Names are VOC's, or those in the file `labels.txt` beside the folders.
    """

    description = "a folder as of Pascal VOC, with JPEGImages, SegmentationClass and ImageSets/Segmentation"

    def recognises(self, source: str) -> bool:
        return _find_root(source) is not None

    def read(self, source: str) -> Masks:
        root = _find_root(source)
        assert root is not None  # recognised
        lists = root / "ImageSets" / "Segmentation"
        masks = root / "SegmentationClass"
        names = {split: name for split, name in SPLITS.items() if (lists / f"{name}.txt").is_file()}
        if (lists / "trainaug.txt").is_file() and (root / "SegmentationClassAug").is_dir():
            names["train"], masks = "trainaug", root / "SegmentationClassAug"
        if not names:
            raise ValueError(
                f"{source} has no list of images; it was looked for at {lists / 'train.txt'}. Write there the name of "
                "each image, one on each line, without its ending."
            )
        remedy = "Download the data set again."
        splits = {
            split: [
                Pair(_image_of(root, line.strip()), masks / f"{line.strip()}.png")
                for line in read_lines(lists / f"{name}.txt", source, remedy)
            ]
            for split, name in names.items()
        }
        own = root / "labels.txt"
        return Masks(pairs_data(splits), read_lines(own, source, remedy) if own.is_file() else list(NAMES))


def _find_root(source: str) -> Path | None:
    root = absolute(source)
    for place in (root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))):
        if (place / "JPEGImages").is_dir() and (place / "SegmentationClass").is_dir():
            return place
    return None


def _image_of(root: Path, name: str) -> Path:
    image = root / "JPEGImages" / f"{name}.jpg"
    png = image.with_suffix(".png")
    return png if not image.is_file() and png.is_file() else image
