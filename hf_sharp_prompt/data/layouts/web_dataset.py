from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, IterableDatasetDict, load_dataset

from ..catalogue import CatalogueEntry
from ..columns import find_label_column
from .image_files import absolute
from .layout import READ_ERRORS, Layout, load
from .split_names import files_by_split


class WebDataset(Layout):
    """A TAR archive of samples, or a folder of such shards: `0001.jpg` with `0001.cls`, `0001.txt` or `0001.json`.

    The words of the shards' names say their splits, as in `train-0001.tar`. The number in a `cls` file needs
    `class_names`. The fields of a `json` file are columns.

    `datasets` describes it: https://huggingface.co/docs/hub/datasets-webdataset
    """

    description = "a WebDataset: a .tar file of images with .cls, .txt or .json files, or a folder of such shards"

    def recognises(self, source: str) -> bool:
        path = Path(source).expanduser()
        return _is_shard(path) or bool(_find_shards(path))

    def read(self, entry: CatalogueEntry) -> DatasetDict:
        return _load(entry, streaming=False)

    def stream(self, entry: CatalogueEntry) -> IterableDatasetDict:
        return _load(entry, streaming=True)


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".tar" and path.is_file()


def _find_shards(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _is_shard(path)] if folder.is_dir() else []


def _load(entry: CatalogueEntry, streaming: bool) -> Any:
    path = absolute(entry.source)
    shards = {"train": [path]} if path.is_file() else files_by_split(_find_shards(path), entry.source)
    files = {split: list(map(str, paths)) for split, paths in shards.items()}
    read = partial(load_dataset, "webdataset", data_files=files, streaming=streaming)
    errors = (*READ_ERRORS, tarfile.TarError, ValueError)
    splits = load(read, f"{entry.source} cannot be read as a WebDataset", errors)
    return type(splits)({name: _with_label(split, entry) for name, split in splits.items()})


def _with_label(split: Any, entry: CatalogueEntry) -> Any:
    """Make a column of the label that is in a `json` file, or else let a `txt` file be the label."""
    fields = split.features.get("json")
    if entry.label_column in split.features:
        return split
    if isinstance(fields, dict) and (name := entry.label_column or find_label_column(fields)) in fields:
        if isinstance(split, Dataset):
            return split.add_column(name, [row[name] for row in split["json"]], feature=fields[name])
        features = Features({**split.features, name: fields[name]})
        return split.map(lambda row: {name: row["json"][name]}, features=features)
    if entry.label_column is None and find_label_column(split.features) is None and "txt" in split.features:
        return split.rename_column("txt", "label")
    return split
