"""Which column of a data set holds the images, and which the labels? Loading, batches and counts all ask here.

Names come first, so that a row, which has values but no features, gives the same answer as its data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
from datasets import ClassLabel
from PIL import Image


IMAGE_COLUMNS = ("image", "img", "images", "photo", "picture", "jpg", "jpeg", "png", "webp")
"""Names under which data sets have images."""

LABEL_COLUMNS = ("label", "labels")
"""Names that always are the label, whatever other columns there are."""

MODEL_INPUTS = ("pixel_values", "image_features")
"""Columns that models take as they are, unless they hold pictures."""


def find_image_column(columns: Mapping[str, Any]) -> str | None:
    """Find the column of the images.

    That is `pixel_values` if it holds pictures; or else `image`; or else the only one that holds pictures; or else the
    only one with another usual name, such as `img`.

    Args:
        columns: A data set's features, or a row: column → feature or value.

    Returns:
        The column's name; None if there is none.

    Raises:
        ValueError: Several columns that could be meant.
    """
    for name in ("pixel_values", "image"):
        if name in columns and (name == "image" or _is_picture(columns[name])):
            return name
    pictures = [name for name, of in columns.items() if _is_picture(of)]
    return _only(pictures or [name for name in columns if name.lower() in IMAGE_COLUMNS], "image", columns)


def find_label_column(columns: Mapping[str, Any]) -> str | None:
    """Find the column of the labels.

    That is `label` or `labels`; or else the only one whose feature is a `ClassLabel` or whose name ends in `_label`,
    such as `fine_label`.

    Args:
        columns: A data set's features, or a row: column → feature or value.

    Returns:
        The column's name; None if there is none.

    Raises:
        ValueError: Several columns that could be meant.
    """
    named = [name for name in LABEL_COLUMNS if name in columns]
    others = [name for name, of in columns.items() if isinstance(of, ClassLabel) or name.lower().endswith("_label")]
    return _only(named or others, "label", columns)


def is_model_input(columns: Mapping[str, Any]) -> bool:
    """Tell whether a row has what a model takes, made by a transform for instance, so that its image is not needed."""
    return any(name in columns and not _is_picture(columns[name]) for name in MODEL_INPUTS)


def describe(columns: Mapping[str, Any]) -> str:
    """The columns with their kinds, for messages."""
    return ", ".join(f"{name} ({type(of).__name__})" for name, of in columns.items())


def _is_picture(of: Any) -> bool:
    if isinstance(of, dict):
        return of.keys() == {"bytes", "path"}
    return isinstance(of, datasets.Image | Image.Image)


def _only(found: list[str], kind: str, columns: Mapping[str, Any]) -> str | None:
    if len(found) > 1:
        raise ValueError(
            f"There are several {kind} columns ({', '.join(found)}); name the one to use with {kind}_column, or keep "
            f"one of them. The columns are: {describe(columns)}."
        )
    return found[0] if found else None
