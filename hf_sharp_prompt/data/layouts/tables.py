from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, Value, concatenate_datasets, load_dataset
from datasets.data_files import SPLIT_KEYWORDS
from datasets.utils.file_utils import is_local_path

from ..catalogue import CatalogueEntry
from ..columns import describe, find_image_column, require_column
from ..labels import shortened
from .class_folders import is_image
from .image_files import absolute
from .layout import Layout, load
from .split_names import files_by_split, named_splits


SPLIT = "split"
"""The column that may say the split of each row."""


class Tables(Layout):
    """A table with a column of images and one of labels, or a folder with one for each split, such as `train.csv`.

    Images are paths, or in Parquet files bytes, too. A relative path begins at the table's folder, or else at the
    folder in it that is called `images` or as the table without its ending; it may lead out of the folder. Labels are
    strings, or whole numbers with `class_names`. CSV and TSV files start with the names of the columns; empty cells
    are missing values; which of comma, semicolon and tab is between cells is seen in the first line. JSON files hold
    a list of objects, or one object on each line. A column `split` says which split each row of a table is of.
    """

    description = (
        "a CSV, TSV, JSON, JSONL or Parquet file with a column of image paths and one of labels, or a folder with one "
        "for each split, such as train.csv and test.csv"
    )

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        return is_table(path) or any("train" in named_splits(file.stem) for file in find_tables(path))

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        path = absolute(entry.source)
        if path.is_file():
            return _by_split(_read(path, entry), path)
        by_split = files_by_split(find_tables(path), entry.source)
        return DatasetDict(
            {split: _join([_read(file, entry) for file in files], files) for split, files in by_split.items()}
        )


def is_table(path: Path) -> bool:
    """Tell by a file's name whether it is a table."""
    return path.suffix.lower() in READERS and path.is_file()


def find_tables(folder: Path) -> list[Path]:
    """Find the tables in a folder, or else in its folder `data`, where the Hub keeps Parquet files."""
    for place in (folder, folder / "data"):
        if place.is_dir() and (tables := [path for path in sorted(place.iterdir()) if is_table(path)]):
            return tables
    return []


def _read(file: Path, entry: CatalogueEntry) -> Dataset:
    table = READERS[file.suffix.lower()](file)
    if not len(table):
        raise ValueError(f"{file} has no rows; add one for each image, or remove the file.")
    if any(map(is_image, table.column_names)):
        raise ValueError(
            f"{file} starts with an image and not with the names of the columns; add a first line such as image,label."
        )
    column = entry.image_column or require_column(find_image_column, "image", table.features, str(file))
    if table.features.get(column) not in (Value("string"), Value("large_string")):
        return table  # a column of bytes, or one that is not there, which the caller reports
    paths = absolute_paths(table[column], [file.parent, file.parent / "images", file.parent / file.stem])
    completed = table.add_column("absolute path", paths, feature=Value("string"))
    completed = completed.remove_columns(column).rename_column("absolute path", column)
    return completed.select_columns(table.column_names)


def _by_split(table: Dataset, file: Path) -> DatasetDict:
    """Sort the rows of a table by its column `split`; without it, all are for training."""
    values = table[SPLIT] if SPLIT in table.column_names else []
    splits_of = {value: named_splits(str(value)) for value in {*values}}
    if not any(splits_of.values()):
        return DatasetDict(train=table)
    if unclear := [str(value) for value, splits in splits_of.items() if len(splits) != 1]:
        raise ValueError(
            f"{file} has rows whose {SPLIT} is {shortened(unclear)}; write train, validation or test in each."
        )
    return DatasetDict(
        {
            split: table.select([row for row, value in enumerate(values) if splits_of[value] == [split]])
            for split in map(str, SPLIT_KEYWORDS)
            if [split] in splits_of.values()
        }
    )


def absolute_paths(paths: Sequence[str | None], folders: Sequence[Path]) -> list[str | None]:
    """Complete relative paths.

    Args:
        paths: The paths as they are listed; what is no path of this machine, such as a URL, stays as it is.
        folders: Where they may begin. The first that has the first path is taken, or else the first.
    """
    first = next((path for path in paths if path), "")
    folder = next((folder for folder in folders if os.path.exists(folder / first)), folders[0])
    return [
        os.path.normpath(os.path.join(folder, path)) if path and is_local_path(path) else path or None
        for path in paths
    ]


def _join(tables: list[Dataset], files: Sequence[Path]) -> Dataset:
    for table, file in zip(tables, files, strict=True):
        if table.features != tables[0].features:
            raise ValueError(
                f"{file} has other columns than {files[0].name}: {describe(table.features)} instead of "
                f"{describe(tables[0].features)}; give tables of one split the same columns."
            )
    return concatenate_datasets(tables)


def _read_csv(file: Path) -> Dataset:
    text = _read_text(file)
    first = text.partition("\n")[0]
    delimiter = max("\t,;" if file.suffix.lower() == ".tsv" else ",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names, *rows = [(reader.line_num, row) for row in reader if row] or [(0, [])]
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read in line {reader.line_num} ({error}); correct it.") from error
    columns = [name.strip() for name in names[1]]
    if repeated := [name for name in columns if columns.count(name) > 1]:
        raise ValueError(f"{file} has several columns {repeated[0]!r}; rename all but one.")
    if wrong := [line for line, row in rows if len(row) != len(columns)]:
        raise ValueError(
            f"{file} has {len(columns)} columns, but line {wrong[0]} has another number of cells; put quotes around "
            f"cells with {delimiter!r} in them."
        )
    cells = zip(*(row for _, row in rows), strict=True)
    return Dataset(
        pa.table(
            {
                name: pa.array([cell.strip() or None for cell in values], pa.string())
                for name, values in zip(columns, cells)
            }
        )
    )


def _read_json(file: Path) -> Dataset:
    rows = _read_json_rows(_read_text(file), file)
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return Dataset(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}))
    except pa.ArrowException as error:
        raise ValueError(f"{file} has a field with values of several types ({error}); give it one type.") from error


def _read_json_rows(text: str, file: Path) -> list[dict[str, Any]]:
    """Read a list of objects, or one object on each line."""
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file} is not JSON: {error}. It must hold a list of objects, or one on each line."
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file} holds values that are no objects; write each image as an object with its label.")
    return rows


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}); save it in UTF-8.") from error


def _read_parquet(file: Path) -> Dataset:
    read = partial(load_dataset, "parquet", data_files=str(file), split="train")
    return load(read, f"{file} cannot be read as a Parquet file")


READERS: dict[str, Callable[[Path], Dataset]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
}
"""Ending of a file's name → how its table is read."""
