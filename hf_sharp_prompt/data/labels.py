"""Read and check the labels of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset

from ..compat.datasets import column_of
from .columns import describe, find_label_column


def labels_of(dataset: Any, label_column: str | None = None) -> np.ndarray:
    """Return the label of each sample; no image is read.

    Args:
        dataset: A `datasets.Dataset` with a column of labels, or a data set that has them as its attribute `labels`,
            such as [`ImageFeatures`].
        label_column: The column's name. By default it is found as in batches: `label` or `labels`, or else the only
            one that is a `ClassLabel` or whose name ends in `_label`.

    Returns:
        An array of 64-bit integers, one per sample.

    Raises:
        ValueError: There is no such column or attribute, or there are several; a label is missing (None or
            negative), is no whole number, or is not below the number of classes.
    """
    if not isinstance(dataset, Dataset):
        if not hasattr(dataset, "labels"):
            raise ValueError(
                f"The labels of a {type(dataset).__name__} cannot be read without iterating over it; give a "
                "datasets.Dataset with a column 'label', or a data set with an attribute 'labels'."
            )
        return check_labels(dataset.labels, class_names_of(dataset), "attribute 'labels'")
    column = label_column or find_label_column(dataset.features)
    if column is None or column not in dataset.column_names:
        wanted = "'label' or 'labels'" if column is None else repr(column)
        raise ValueError(f"There is no column {wanted}; there are {describe(dataset.features)}.")
    labels = column_of(dataset, column)
    are_whole = pa.types.is_integer(labels.type)
    values = labels.fill_null(-1).to_numpy() if are_whole else labels.to_pylist()
    return check_labels(values, class_names_of(dataset, column), f"column {column!r}")


def class_names_of(dataset: Any, label_column: str | None = None) -> list[str]:
    """Return the names of the classes, by label; an empty list where the data set names none.

    Args:
        dataset: As for [`labels_of`].
        label_column: As for [`labels_of`].
    """
    if not isinstance(dataset, Dataset):
        return list(getattr(dataset, "class_names", ()))
    feature = dataset.features.get(label_column or find_label_column(dataset.features))
    return list(feature.names) if isinstance(feature, ClassLabel) else []


def class_counts(dataset: Any, label_column: str | None = None) -> list[int]:
    """Count each class's samples; no image is read.

    Args:
        dataset: As for [`labels_of`].
        label_column: As for [`labels_of`].

    Returns:
        The number of samples of each class, by label: for all classes that the data set names, or else up to the
        largest label.

    Raises:
        ValueError: As for [`labels_of`].
    """
    names = class_names_of(dataset, label_column)
    return np.bincount(labels_of(dataset, label_column), minlength=len(names)).tolist()


def check_labels(
    labels: Sequence[int | None] | np.ndarray | torch.Tensor, names: Sequence[str], where: str
) -> np.ndarray:
    """Check that every sample has the label of a class.

    Args:
        labels: The label of each sample.
        names: The names of the classes. If it is empty, labels may be of any size.
        where: The column or argument that the labels are in, for the error.

    Returns:
        The labels as an array of 64-bit integers.

    Raises:
        ValueError: A label is None, negative, no whole number, or not below the number of names.
    """
    numbers = _as_numbers(labels, where)
    if unlabelled := int((numbers < 0).sum()):
        raise ValueError(
            f"{unlabelled} of {len(numbers)} samples have no label in {where} (None or below 0); drop them with "
            "dataset.filter(), or use a split that is labelled."
        )
    if names and (beyond := numbers[numbers >= len(names)]).size:
        raise ValueError(
            f"{len(beyond)} of {len(numbers)} samples have a label in {where} beyond the {len(names)} classes, such "
            f"as {beyond[0]}; labels go from 0 to {len(names) - 1}."
        )
    return numbers


def _as_numbers(labels: Sequence[int | None] | np.ndarray | torch.Tensor, where: str) -> np.ndarray:
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    values = labels.tolist() if isinstance(labels, np.ndarray | torch.Tensor) else list(labels)
    if wrong := [value for value in values if not (value is None or is_whole(value))]:
        raise ValueError(
            f"The labels in {where} are not the numbers of classes but, for instance, {wrong[0]!r}; load the data "
            "with load_image_dataset, or cast the column to a ClassLabel with the classes' names."
        )
    return np.asarray([-1 if value is None else value for value in values], dtype=np.int64)


def is_whole(value: Any) -> bool:
    """Tell whether a value can be the number of a class; True and 2.0 cannot."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def shortened(names: Sequence[str]) -> str:
    """List the first few names, for messages."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
