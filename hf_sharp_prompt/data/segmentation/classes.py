"""What a pixel of a mask means: a class, no class, or nothing that counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, List

from ...hyperparameters import nearest


IGNORED = -100
"""The label of pixels that do not count, in training and in measures."""

BACKGROUND = -1
"""The label of pixels that show none of the classes."""

IGNORED_VALUE = 255
"""The pixel value in masks that means ignored, as in VOC."""

BACKGROUND_NAMES = ("background",)
UNLABELLED_NAMES = ("unlabelled", "unlabeled", "void", "ignore")

CLASSES = "classes"
"""The column that lists the classes of each image; its feature names all classes, by pixel value."""


def classes_feature(names: Sequence[str]) -> List:
    """Make the feature of the column `classes`.

    Args:
        names: The name of each pixel value.
    """
    return List(ClassLabel(names=list(names)))


def value_names(data: Dataset | DatasetDict) -> list[str]:
    """Return the name of each pixel value of a data set's masks, `background` and `unlabelled` included."""
    split = data if isinstance(data, Dataset) else data[next(iter(data))]
    return list(split.features[CLASSES].feature.names)


def is_class(name: str) -> bool:
    """Tell whether a name is a class that has a text; `background` and `unlabelled` are none."""
    return name.lower() not in (*BACKGROUND_NAMES, *UNLABELLED_NAMES)


def segmented_classes(data: Dataset | DatasetDict) -> list[str]:
    """Return the names of the classes, without `background` and `unlabelled`, in the order of their pixel values."""
    return [name for name in value_names(data) if is_class(name)]


def labels_of_values(
    names: Sequence[str],
    classes: Sequence[str] | None = None,
    background: int = BACKGROUND,
    ignored_value: int = IGNORED_VALUE,
) -> np.ndarray:
    """Return the label of each pixel value.

    Args:
        names: The name of each pixel value.
        classes: The names of the classes that the model compares with, by label. By default all. Pixels of other
            classes are ignored.
        background: The label of pixels named `background`: `BACKGROUND`, so that they count as none of the classes, or
            `IGNORED`.
        ignored_value: The pixel value that is ignored.

    Returns:
        A table of labels, 64-bit integers, by pixel value.

    Raises:
        ValueError: A class that no pixel value has.
    """
    classes = [name for name in names if is_class(name)] if classes is None else list(classes)
    if unknown := [name for name in classes if name not in names]:
        raise ValueError(f"No pixel value is named {unknown[0]!r}{nearest(unknown[0], list(names))}")
    labels = np.full(max(len(names), ignored_value + 1), IGNORED, dtype=np.int64)
    for value, name in enumerate(names):
        if value == ignored_value:
            continue
        if name in classes:
            labels[value] = classes.index(name)
        elif name.lower() in BACKGROUND_NAMES:
            labels[value] = background
    return labels
