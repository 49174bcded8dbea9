from __future__ import annotations

import re
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, Value

from ..catalogue import CatalogueEntry
from .class_folders import EXTENSIONS
from .image_files import absolute, read_lines
from .layout import Layout
from .split_names import files_by_split, named_splits
from .tables import absolute_paths


ENDINGS = (".txt", ".lst")
"""How the names of text lists end."""

LINE = re.compile(rf"(.*(?:{'|'.join(map(re.escape, sorted(EXTENSIONS)))}))\s*[\s,;]\s*(.+)", re.IGNORECASE)
"""A path, up to the last ending of an image's name before a separator; and a label, with spaces or not."""

LINE_WITHOUT_ENDING = re.compile(r"(.*\S)\s*[\s,;]\s*(\S+)")
"""A path without such an ending, and a label of one word."""


class TextLists(Layout):
    """A text file with an image and its label on each line, or a folder with one for each split, such as `train.txt`.

    A line is `path label`, `path,label`, or both with a tab between them; paths may hold spaces, and so may labels
    after a path that ends like an image. Relative paths begin as those of tables. Labels are names, or whole numbers
    with `class_names`. Lines that are empty or begin with `#` are passed over.
    """

    description = "a text file with a path and a label on each line, or a folder with one for each split: train.txt, …"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        return _is_list(path) or any("train" in named_splits(file.stem) for file in _find_lists(path))

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        path = absolute(entry.source)
        by_split = {"train": [path]} if path.is_file() else files_by_split(_find_lists(path), entry.source)
        splits = {split: _read(files, entry.source) for split, files in by_split.items()}
        features = Features({"image": Image(), "label": Value("string")})
        return DatasetDict({split: Dataset.from_dict(rows, features=features) for split, rows in splits.items()})


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.is_file()


def _find_lists(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _is_list(path)] if folder.is_dir() else []


def _read(files: list[Path], source: str) -> dict[str, list[str | None]]:
    rows: dict[str, list[str | None]] = {"image": [], "label": []}
    for file in files:
        lines = read_lines(file, source, "Write a path and a label on each line.")
        found = [_read_line(line, file) for line in lines if not line.startswith("#")]
        folders = [file.parent, file.parent / "images", file.parent / file.stem]
        rows["image"] += absolute_paths([path for path, _ in found], folders)
        rows["label"] += [label for _, label in found]
    return rows


def _read_line(line: str, file: Path) -> tuple[str, str]:
    match = LINE.fullmatch(line.strip()) or LINE_WITHOUT_ENDING.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"{file} has a line that is no path and label: {line.strip()!r}; write `path label`.")
    return match[1].strip().strip('"'), match[2].strip().strip('"')
