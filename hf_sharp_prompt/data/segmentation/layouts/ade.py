from __future__ import annotations

import csv
from pathlib import Path

from ...class_names import in_words
from ...layouts.image_files import read_lines
from ...layouts.split_names import named_splits
from .folders import match_by_name
from .layout import MaskLayout, Masks, absolute, pairs_data


NAMES_FILES = ("objectInfo150.txt", "objectInfo150.csv", "classes.txt", "labels.txt")
UNLABELLED = "unlabelled"


class ADE(MaskLayout):
    """A folder as of ADE20K's scene parsing: `images/training`, `annotations/training` and `objectInfo150.txt`.

    The masks' pixel value 0 is "other objects", which the benchmark ignores; the classes are numbered from 1. Of the
    names in `objectInfo150.txt` the first of several is taken.
    """

    description = "a folder as of ADE20K, with images/training, annotations/training and objectInfo150.txt"

    def recognises(self, source: str) -> bool:
        root = absolute(source)
        return (root / "images" / "training").is_dir() and (root / "annotations" / "training").is_dir()

    def read(self, source: str) -> Masks:
        root = absolute(source)
        splits = {}
        for folder in sorted(path for path in (root / "images").iterdir() if path.is_dir()):
            masks = root / "annotations" / folder.name
            if masks.is_dir() and (split := named_splits(folder.name)):
                splits[split[0]] = match_by_name(folder, masks, source)
        file = next((root / name for name in NAMES_FILES if (root / name).is_file()), None)
        return Masks(pairs_data(splits), None if file is None else [UNLABELLED, *_read_names(file, source)])


def _read_names(file: Path, source: str) -> list[str]:
    lines = read_lines(file, source, "Download the data set again.")
    if not file.name.startswith("objectInfo"):
        return lines
    rows = list(csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ","))[1:]
    # The columns are Idx, Ratio, Train, Val, Stuff and Name.
    return [in_words(row[-1].replace(";", ",").split(",")[0].strip()) for row in rows]
