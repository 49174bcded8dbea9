from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, IterableDatasetDict
from datasets.packaged_modules.webdataset import webdataset

from ..catalogue import CatalogueEntry
from ..columns import find_label_column
from .image_files import absolute
from .layout import READ_ERRORS, Layout, load
from .split_names import files_by_split


IMAGE = "image"
"""The column of a sample's only image."""


class WebDataset(Layout):
    """A TAR archive of samples, or a folder of such shards: `0001.jpg` with `0001.cls`, `0001.txt` or `0001.json`.

    The words of the shards' names say their splits, as in `train-0001.tar`. The number in a `cls` file needs
    `class_names`. The fields of a `json` file are columns. The image of a sample is the column `image`, whatever its
    format, so that an archive may mix formats; of several images each is a column, called as the file's name ends.

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


class Samples(webdataset.WebDataset):
    """Reads shards as `datasets` does, which takes all images to be of one format, in small letters."""

    IMAGE_EXTENSIONS = [*webdataset.IMAGE_EXTENSIONS, IMAGE]

    @classmethod
    def _get_pipeline_from_tar(cls, tar_path: str, tar_iterator: Any) -> Iterator[dict[str, Any]]:
        for sample in super()._get_pipeline_from_tar(tar_path, tar_iterator):
            images = [name for name in sample if name.lower().rpartition(".")[2] in webdataset.IMAGE_EXTENSIONS]
            for name in images:
                file = {"path": f"{sample['__key__']}.{name}", "bytes": sample.pop(name)}
                sample[IMAGE if images == [name] else name.lower()] = file
            yield {name if name.startswith("__") else name.lower(): value for name, value in sample.items()}

    def _generate_examples(self, tar_paths: Sequence[str], tar_iterators: Sequence[Any]) -> Iterator[Any]:
        for shard, (path, files) in enumerate(zip(tar_paths, tar_iterators)):
            for number, sample in enumerate(self._get_pipeline_from_tar(path, files)):
                yield f"{shard}_{number}", {name: sample.get(name) for name in self.info.features or {}}


def _load(entry: CatalogueEntry, streaming: bool) -> Any:
    path = absolute(entry.source)
    shards = {"train": [path]} if path.is_file() else files_by_split(_find_shards(path), entry.source)
    files = {split: list(map(str, paths)) for split, paths in shards.items()}
    errors = (*READ_ERRORS, tarfile.TarError, ValueError)
    splits = load(partial(_read, files, streaming), f"{entry.source} cannot be read as a WebDataset", errors)
    return type(splits)({name: _with_columns(split, entry) for name, split in splits.items()})


def _read(files: dict[str, list[str]], streaming: bool) -> Any:
    builder = Samples(data_files=files)
    if streaming:
        return builder.as_streaming_dataset()
    builder.download_and_prepare()
    return builder.as_dataset()


def _with_columns(split: Any, entry: CatalogueEntry) -> Any:
    """Call the image as the user does, who may know it by its format."""
    if entry.image_column in webdataset.IMAGE_EXTENSIONS and entry.image_column not in split.features:
        split = split.rename_column(IMAGE, entry.image_column)
    return _with_label(split, entry)


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
