"""Identify data by a hash of its contents, wherever they are stored and whatever made them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, singledispatch
from typing import Any

import xxhash
from datasets import ClassLabel, Dataset, DatasetDict, Value
from datasets.utils.file_utils import is_local_path

from .. import progress
from .columns import IMAGE_COLUMNS
from .file_cache import FileCache


_ROWS = 1024
"""Number of rows that are read at a time."""


@singledispatch
def fingerprint(dataset: Any) -> str:
    """Hash the contents of a data set.

    The hash depends on the rows in their order, on the columns' names and on the names of the classes. An image that
    is a file enters by the content of the file, so data that are moved or copied keep their fingerprint, and an image
    that is replaced under the same path changes it. Transforms and formats do not count.

    Every image file is read once, by several threads: 50,000 files of 20 KB take 2 to 4 s of CPU time. The hash of its
    content is kept on disk until the file changes, which its size and times tell ([`FileCache`]), so that later
    fingerprints of the same files take 1 s and read none of them.

    Args:
        dataset: A `datasets.Dataset`, a `DatasetDict`, or [`ImageFeatures`].

    Returns:
        32 hexadecimal digits.

    Raises:
        ValueError: The data are streamed or of another kind, or an image file cannot be read.
    """
    raise ValueError(
        f"A {type(dataset).__name__} has no contents that can be compared without iterating over it; give a "
        "datasets.Dataset, a DatasetDict or ImageFeatures."
    )


@fingerprint.register(DatasetDict)
def _fingerprint_splits(splits: DatasetDict) -> str:
    return digest_of(*((name, fingerprint(splits[name])) for name in sorted(splits)))


@fingerprint.register(Dataset)
def _fingerprint_rows(dataset: Dataset) -> str:
    digest = xxhash.xxh3_128()
    names = sorted(dataset.column_names)
    _update(digest, len(dataset))
    for name in names:
        feature = dataset.features[name]
        _update(digest, name, feature.names if isinstance(feature, ClassLabel) else None)
    paths = {name for name in names if name.lower() in IMAGE_COLUMNS and dataset.features[name] == Value("string")}
    for number, table in enumerate(dataset.with_format("arrow").iter(_ROWS)):
        progress.report("reading", number * _ROWS, len(dataset))
        for name in names:
            values = table[name].to_pylist()
            if name in paths:
                values = [path if path is None else {"bytes": None, "path": path} for path in values]
            for content in _digests(values):
                digest.update(content)
    return digest.hexdigest()


def digest_of(*values: Any) -> str:
    """Hash plain values by their `repr`."""
    return xxhash.xxh3_128_hexdigest(repr(values).encode())


def _digests(values: list[Any]) -> list[bytes]:
    if values and all(isinstance(value, int | float | str | None) for value in values):
        return [repr(values).encode()]
    if all(isinstance(value, dict) and value.keys() == {"bytes", "path"} for value in values):
        files = iter(_digests_of_paths([value["path"] for value in values if _is_file(value)]))
        return [next(files) if _is_file(value) else _digest(value) for value in values]
    return [_digest(value) for value in values]


def _is_file(image: dict[str, Any]) -> bool:
    """Tell whether an image is stored by its path alone."""
    return image["bytes"] is None and image["path"] is not None


def _digest(value: Any) -> bytes:
    """Hash one value; an image, or another file, is a dictionary with its bytes or its path."""
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        if value["bytes"] is not None:
            return xxhash.xxh3_128_digest(value["bytes"])
        return bytes(16) if value["path"] is None else _digests_of_paths([value["path"]])[0]
    digest = xxhash.xxh3_128()
    if isinstance(value, dict):
        for name in sorted(value):
            _update(digest, name, _digest(value[name]))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        _update(digest, *map(_digest, value))
    else:
        _update(digest, value)
    return digest.digest()


def _digests_of_paths(paths: Sequence[str]) -> list[bytes]:
    """Hash files, those on this machine by their contents, others by their paths: they are in a fixed revision."""
    local = [path for path in paths if is_local_path(path)]
    try:
        digest_of_file = dict(zip(local, map(bytes.fromhex, _DIGESTS.facts(local)), strict=True))
    except OSError as error:
        raise ValueError(
            f"The file {error.filename} of the data set cannot be read ({error.strerror}); restore it."
        ) from error
    return [digest_of_file.get(path) or xxhash.xxh3_128_digest(path.encode()) for path in paths]


def _digest_of_file(path: str) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        for block in iter(partial(file.read, 2**20), b""):
            digest.update(block)
    return digest.hexdigest()


_DIGESTS = FileCache("digests", _digest_of_file)


def _update(digest: Any, *values: Any) -> None:
    digest.update(repr(values).encode())
