"""Data sets whose images are read while they are iterated over, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from datasets import ClassLabel, Features, Image, IterableDataset, IterableDatasetDict, Value

from . import layouts
from .catalogue import CatalogueEntry
from .class_names import ClassNames, choose_names
from .columns import describe, find_image_column, find_label_column, require_column
from .labels import shortened
from .splits import usual_names


def stream(entry: CatalogueEntry, class_names: ClassNames | None, dataset: str) -> IterableDatasetDict:
    """Stream a data set.

    Args:
        entry: Where the data are, and their columns if these are named.
        class_names: How classes are named; None for the data set's own names in words.
        dataset: The data set, for errors.

    Returns:
        The splits that there are, under their usual names, with an `image` column that is not yet decoded and a
        `label` column, a `ClassLabel`. Images without a label are passed over.

    Raises:
        ValueError: No such data set; no image or label column, or several; labels whose names are not known before
            they are read; a data set of the catalogue that is used without some of its classes.
    """
    if entry.left_out:
        raise ValueError(
            f"{dataset} cannot be streamed, since it is used without the classes {shortened(entry.left_out)}; load it "
            "without streaming=True."
        )
    splits = layouts.find(entry.source).stream(entry)
    names = usual_names([*splits], entry.splits, dataset)
    return IterableDatasetDict(
        {usual: _with_usual_columns(splits[name], entry, class_names, dataset) for usual, name in names.items()}
    )


def _with_usual_columns(
    split: IterableDataset, entry: CatalogueEntry, class_names: ClassNames | None, dataset: str
) -> IterableDataset:
    columns = split.features or split._resolve_features().features  # reads the first rows
    image = entry.image_column or require_column(find_image_column, "image", columns, dataset)
    label = entry.label_column or require_column(find_label_column, "label", columns, dataset)
    for column in (image, label):
        if column not in columns:
            raise ValueError(f"{dataset} has no column {column!r}; its columns are: {describe(columns)}.")
    names = _name_classes(columns[label], class_names, dataset)
    split = split.select_columns([image, label])
    split = split.rename_columns({old: new for old, new in ((image, "image"), (label, "label")) if old != new})
    split = split.cast_column("image", Image(decode=False))
    split = split.filter(_is_labelled, input_columns="label")
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=names)})
    return split.map(partial(_with_number, features["label"], dataset), features=features)


def _name_classes(label: Any, class_names: ClassNames | None, dataset: str) -> list[str]:
    if isinstance(label, ClassLabel):
        return choose_names(label.names, class_names, dataset)
    if isinstance(label, Value) and isinstance(class_names, Sequence):
        return choose_names(class_names, class_names, dataset)
    raise ValueError(
        f"The labels of {dataset} are {getattr(label, 'dtype', type(label).__name__)} values, and the names of all "
        "classes are not known before all labels are read; pass class_names, a list of names by label, or load the "
        "data without streaming=True."
    )


def _with_number(classes: ClassLabel, dataset: str, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**row, "label": classes.encode_example(row["label"])}
    except ValueError as error:
        raise ValueError(f"{dataset} has a label {row['label']!r}, which is none of its classes ({error}).") from error


def _is_labelled(label: Any) -> bool:
    return label is not None and label != "" and label != -1
