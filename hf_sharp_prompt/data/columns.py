"""Find the columns of the images and of the labels, for loading, batches and counts alike.

Names go before features, so that a row, which has no features, has the same answer as its data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import datasets
from datasets import ClassLabel
from PIL import Image


IMAGE_COLUMNS = ("image", "img", "images", "photo", "picture", "jpg", "jpeg", "png", "webp")
"""Usual names of columns of images."""

PATH_COLUMNS = (
    *("image_path", "img_path", "image_file", "image_filename", "filepath", "file_path", "path"),
    *("file_name", "filename", "file", "image_name", "img_name"),
)
"""Usual names of columns of image files. The first that there is holds the images, if no column has them itself."""

LABEL_COLUMNS = ("label", "labels")
"""Names of columns that are the label, whatever other columns there are."""

OTHER_LABEL_COLUMNS = ("class", "class_name", "category", "category_name", "target", "cls")
"""Other usual names of columns of labels."""

MODEL_INPUTS = ("pixel_values", "image_features")
"""Columns that models take as they are, unless they hold pictures."""


def find_image_column(columns: Mapping[str, Any]) -> str | None:
    """Find the column of the images.

    That is `pixel_values` if it holds pictures; or else `image`; or else the only one that holds pictures; or else the
    only one with another usual name, such as `img`; or else the first with a usual name of a column of paths, such as
    `file_name`.

    Args:
        columns: A data set's features, or a row: column → feature or value.

    Returns:
        The column's name; None if there is none.

    Raises:
        ValueError: Several columns qualify.
    """
    for name in ("pixel_values", "image"):
        if name in columns and (name == "image" or _is_picture(columns[name])):
            return name
    pictures = [name for name, kind in columns.items() if _is_picture(kind)]
    named = pictures or [name for name in columns if name.lower() in IMAGE_COLUMNS]
    return _sole_column(named or _paths(columns)[:1], "image", columns)


def find_label_column(columns: Mapping[str, Any]) -> str | None:
    """Find the column of the labels.

    That is `label` or `labels`; or else the only one whose feature is a `ClassLabel` or whose name ends in `_label`,
    such as `fine_label`; or else the only one with another usual name, such as `class` or `category`.

    Args:
        columns: A data set's features, or a row: column → feature or value.

    Returns:
        The column's name; None if there is none.

    Raises:
        ValueError: Several columns qualify.
    """
    named = [name for name in LABEL_COLUMNS if name in columns]
    others = [
        name for name, kind in columns.items() if isinstance(kind, ClassLabel) or name.lower().endswith("_label")
    ]
    usual = [name for name in columns if name.lower() in OTHER_LABEL_COLUMNS]
    return _sole_column(named or others or usual, "label", columns)


def require_column(
    find: Callable[[Mapping[str, Any]], str | None], kind: str, columns: Mapping[str, Any], dataset: str
) -> str:
    """Find a column that a data set must have.

    Args:
        find: `find_image_column` or `find_label_column`.
        kind: `image` or `label`.
        columns: The data set's features.
        dataset: The data set, for the error.

    Raises:
        ValueError: No column qualifies, or several do.
    """
    try:
        column = find(columns)
    except ValueError as error:
        raise ValueError(f"In {dataset}: {error}") from error
    if column is None:
        raise ValueError(
            f"{dataset} has no {kind} column; name the one to use with {kind}_column. Its columns are: "
            f"{describe(columns)}."
        )
    return column


def is_model_input(columns: Mapping[str, Any]) -> bool:
    """Tell whether a row has a model's input, for instance from a transform, so that its image is not needed."""
    return any(name in columns and not _is_picture(columns[name]) for name in MODEL_INPUTS)


def describe(columns: Mapping[str, Any]) -> str:
    """List the columns with their kinds, for messages."""
    return ", ".join(f"{name} ({type(kind).__name__})" for name, kind in columns.items())


def _is_picture(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() == {"bytes", "path"}
    return isinstance(value, datasets.Image | Image.Image)


def _paths(columns: Mapping[str, Any]) -> list[str]:
    by_lower_case = {name.lower(): name for name in columns}
    return [by_lower_case[name] for name in PATH_COLUMNS if name in by_lower_case]


def _sole_column(found: list[str], kind: str, columns: Mapping[str, Any]) -> str | None:
    if len(found) > 1:
        raise ValueError(
            f"There are several {kind} columns ({', '.join(found)}); name the one to use with {kind}_column, or keep "
            f"one of them. The columns are: {describe(columns)}."
        )
    return found[0] if found else None
