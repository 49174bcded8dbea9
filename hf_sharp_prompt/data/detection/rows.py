"""Rows of detection data in the one form in which they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, Features, List, Value

from ...compat.datasets import replace_column


Objects = dict[str, list[Any]]
"""The objects of an image: `bbox` in pixels, left, top, width, height; `category`; `crowd`."""


Row = dict[str, Any]
"""An image: `image`, `width`, `height` and `objects`."""


def features_of(names: Sequence[str]) -> Features:
    """The columns of detection data: the image, not decoded, its size in pixels, and its objects.

    Args:
        names: The names of the categories.
    """
    return Features(
        {
            "image": datasets.Image(decode=False),
            "width": Value("int64"),
            "height": Value("int64"),
            "objects": {
                "bbox": List(List(Value("float32"), length=4)),
                "category": List(ClassLabel(names=list(names))),
                "crowd": List(Value("bool")),
            },
        }
    )


def category_names(dataset: Dataset) -> list[str]:
    """The names of the categories of detection data, by label."""
    category: Any = dataset.features["objects"]["category"]
    return list(category.feature.names)


def objects_of(dataset: Dataset) -> list[Objects]:
    """The objects of each image; no image is read."""
    return dataset.select_columns("objects").with_format(None)["objects"][:]


def with_objects(dataset: Dataset, objects: Sequence[Objects], names: Sequence[str]) -> Dataset:
    """Return the same images with other objects.

    Args:
        dataset: Detection data.
        objects: For each image its objects.
        names: The names of their categories.
    """
    feature = features_of(names)["objects"]
    return replace_column(dataset, "objects", list(objects), feature)


def select_objects(objects: Objects, kept: Sequence[int]) -> Objects:
    """Return some of an image's objects, by their places."""
    return {name: [values[place] for place in kept] for name, values in objects.items()}
