"""Find images that cannot be read before training begins, and leave them out if that is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import PIL
import pyarrow as pa
from datasets import Dataset, DatasetDict
from datasets.utils import tqdm
from datasets.utils.file_utils import is_local_path

from .. import progress
from ..compat.datasets import stored_files
from .decoding import decode
from .file_cache import FileCache
from .labels import shortened


logger = logging.getLogger(__name__)

LISTED = 20
"""Number of images that a warning lists; `load_image_dataset(…, skipped=[])` collects all."""

_ROWS = 256
"""Number of images that are read at a time."""


class SkippedImage(NamedTuple):
    """An image that was left out because it cannot be read.

    Args:
        dataset: The data set, as the user named it.
        split: Its split.
        row: Its place among the labelled images of the split, from 0.
        path: The file's path, or the name that stands beside its bytes; None if it has none.
        reason: Why it cannot be read: a sentence.
    """

    dataset: str
    split: str
    row: int
    path: str | None
    reason: str


def check_are_there(splits: DatasetDict, dataset: str) -> None:
    """Check that no image is missing and no image file is empty. Files are not read: 50,000 take half a second.

    Args:
        splits: Splits with an `image` column that is not decoded.
        dataset: The data set, for the error.

    Raises:
        ValueError: Images that are None; files that do not exist or are empty.
    """
    for name, split in splits.items():
        has_bytes, image_paths = stored_files(split, "image")
        if missing := int(np.sum(~has_bytes & image_paths.is_null().to_numpy())):
            raise ValueError(
                f"{missing} of {len(split)} images in the {name} split of {dataset} are missing (None); remove their "
                "rows, or leave them out with on_bad_image='skip'."
            )
    paths = [path for split in splits.values() for path in _local_files(split)]
    sizes = {path: _size_of(path) for path in paths}
    if absent := [os.path.abspath(path) for path, size in sizes.items() if size is None]:
        raise ValueError(
            f"{len(absent)} of {len(sizes)} image files of {dataset} do not exist; they were looked for at "
            f"{shortened(absent)}. Restore them, correct their paths, or leave them out with on_bad_image='skip'."
        )
    if empty := [path for path, size in sizes.items() if size == 0]:
        raise ValueError(
            f"{len(empty)} of {len(sizes)} image files of {dataset} are empty (0 bytes): {shortened(empty)}. Restore "
            "them, or leave them out with on_bad_image='skip'."
        )


def without_bad_images(splits: DatasetDict, dataset: str, skipped: list[SkippedImage] | None = None) -> DatasetDict:
    """Leave out the images that cannot be decoded; a warning counts and lists them.

    Every image is decoded once, by several threads: 1 to 5 ms of CPU time for a photo of 500 × 375 pixels. For files,
    the result is kept until they change ([`FileCache`]), so that the next call takes a second for 50,000 of them.

    Args:
        splits: Splits with an `image` column that is not decoded.
        dataset: The data set, for the warning.
        skipped: A list to which the images that are left out are added.
    """
    found = {name: find_bad_images(split, name, dataset) for name, split in splits.items()}
    if skipped is not None:
        skipped.extend(image for images in found.values() for image in images)
    return DatasetDict({name: _without(split, found[name], dataset) for name, split in splits.items()})


def find_bad_images(split: Dataset, name: str, dataset: str) -> list[SkippedImage]:
    """Find the images of a split that cannot be decoded.

    Args:
        split: A split with an `image` column that is not decoded.
        name: Its name.
        dataset: The data set, as the user named it.
    """
    bar = tqdm(_find_problems(split), f"Checking the {name} images", len(split), leave=False, unit=" images")
    problems: dict[int, str] = {}
    for row, problem in enumerate(bar):
        progress.report("checking", row, len(split))
        if problem:
            problems[row] = problem
    images = split.select_columns("image").with_format(None).select([*problems])["image"] if problems else []
    paths = (None if image is None else image["path"] for image in images)
    return [SkippedImage(dataset, name, row, path, problems[row]) for row, path in zip(problems, paths, strict=True)]


def image_files(split: Dataset) -> list[str]:
    """Return the paths of the images that are files, not bytes in the data set, in their order."""
    has_bytes, paths = stored_files(split, "image")
    return paths.filter(pa.array(~has_bytes)).drop_null().to_pylist()


def _local_files(split: Dataset) -> list[str]:
    # An absolute path is no URL; parsing a million of them as such takes ten seconds.
    return [path for path in image_files(split) if path.startswith(os.sep) or is_local_path(path)]


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # a ValueError of characters that no path has
        return None


def _without(split: Dataset, bad: Sequence[SkippedImage], dataset: str) -> Dataset:
    if not bad:
        return split
    more = f" … and {len(bad) - LISTED} more." if len(bad) > LISTED else ""
    logger.warning(
        f"{len(bad)} of {len(split)} images in the {bad[0].split} split of {dataset} cannot be read and are left out: "
        f"{' '.join(image.reason for image in bad[:LISTED])}{more}"
    )
    rows = {image.row for image in bad}
    return split.select([row for row in range(len(split)) if row not in rows])


def _find_problems(split: Dataset) -> Iterator[str]:
    """Tell for each image what is wrong with it, in a sentence; the text is empty if nothing is."""
    rows = split.select_columns("image").with_format(None)
    problems_of_files = _PROBLEMS.facts([path for path in _local_files(split) if os.path.isfile(path)])
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), _ROWS):
            images = rows[start : start + _ROWS]["image"]
            are_files = [_is_existing_file(image) for image in images]
            others = [image for image, is_file in zip(images, are_files, strict=True) if not is_file]
            problems_of_others = pool.map(_find_problem, others)
            yield from (next(problems_of_files if is_file else problems_of_others) for is_file in are_files)


def _is_existing_file(image: dict[str, Any] | None) -> bool:
    return (
        image is not None
        and image["bytes"] is None
        and image["path"] is not None
        and is_local_path(image["path"])
        and os.path.isfile(image["path"])
    )


def _find_problem(image: Any) -> str:
    try:
        decode(image)
    except ValueError as error:
        return str(error)
    return ""


_PROBLEMS = FileCache(f"problems-pillow-{PIL.__version__}", _find_problem)
