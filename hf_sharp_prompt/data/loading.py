"""From whatever a user names as data to splits with an `image` and a `label` column."""

from __future__ import annotations

import logging
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Image,
    Value,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetsError

from ..demo import TASKS, load_task
from .columns import describe, find_image_column, find_label_column
from .labels import check_labels, class_counts, shortened


logger = logging.getLogger(__name__)

T = TypeVar("T")

HIDDEN = ("Cc", "Cf", "Cs")
"""Unicode's categories of characters that act on a terminal or a text, or are no characters at all."""

JOINERS = "\u200c\u200d"
"""Hidden characters that some scripts, and emoji, are written with."""

HELD_OUT = 0.3
"""The share of the training images that is tested on where there is no other split."""


def load_image_dataset(dataset: str, image_column: str | None = None, label_column: str | None = None) -> DatasetDict:
    """Load images and labels for classification, as the Trainer, samplers and protocols take them.

    Args:
        dataset: A task of the embedded demo, a data set that `save_to_disk` saved, a folder in `imagefolder` layout
            (one folder per class, in one folder per split), or a data set's id on the Hub.
        image_column: The column of the images. By default `image`, or else the only one whose feature is an `Image`
            or that has another usual name, such as `img`.
        label_column: The column of the labels. By default `label` or `labels`, or else the only one whose feature is a
            `ClassLabel` or whose name ends in `_label`. It may hold strings.

    Returns:
        Splits `train` and `test`, and `validation` where there is one, each with an `image` column that is not yet
        decoded and a `label` column, a `ClassLabel`. In class names, underscores have become spaces. Images without a
        label, and splits without any, are left out. Without a test split the validation split is the test split;
        without either, 30 % of the training split, stratified. Whatever is left out or stands in is logged.

    Raises:
        ValueError: No such data set; no image or label column, or several of which none is named; images that are
            missing; labels beyond the classes; fewer than two classes; a class with an empty name or with control
            characters in it, or two with the same; splits that number their classes differently; a training split
            without labels; too few images to hold a test split out.
    """
    splits = _load_splits(dataset)
    image_column = image_column or _find_column(find_image_column, "image", splits["train"].features, dataset)
    label_column = label_column or _find_column(find_label_column, "label", splits["train"].features, dataset)
    for split, column in product(splits, (image_column, label_column)):
        if column not in splits[split].column_names:
            columns = describe(splits[split].features)
            raise ValueError(f"The {split} split of {dataset} has no column {column!r}; its columns are: {columns}.")
    splits = splits.select_columns([image_column, label_column])
    splits = splits.rename_columns({image_column: "image"} if image_column != "image" else {})
    splits = splits.rename_columns({label_column: "label"} if label_column != "label" else {})
    splits = _with_class_labels(splits, dataset).cast_column("image", Image(decode=False))
    splits = DatasetDict({name: _labelled(split, name, dataset) for name, split in splits.items()})
    for name in [name for name, split in splits.items() if len(split) == 0]:
        if name == "train":
            raise ValueError(f"The train split of {dataset} has no labelled images; use a data set that has some.")
        logger.warning(f"The {name} split of {dataset} has no labelled images and is left out.")
        del splits[name]
    for name, split in splits.items():
        _check_images_are_there(split, name, dataset)
    _say_which_classes_have_no_images(splits["train"], dataset)
    return _with_test_split(splits, dataset)


def canonical_name(dataset: str) -> str:
    """One name for all ways to write the same data set: `pets/`, `./pets` and `~/data/pets` may be one folder.

    Args:
        dataset: As for `load_image_dataset`.

    Returns:
        An absolute path where there is such a file or folder, links not followed; or else the name, as of a demo task
        or on the Hub.
    """
    if dataset not in TASKS and (path := Path(dataset).expanduser()).exists():
        return os.path.abspath(path)
    return dataset.rstrip("/")


def load_class_names(dataset: str) -> list[str]:
    """The names of a data set's classes; of one on the Hub that says them, without its images.

    Args:
        dataset: As for `load_image_dataset`.

    Raises:
        ValueError: There is no such data set; no column of class labels, or several.
    """
    if dataset in TASKS:
        return list(TASKS[dataset].classes)
    if Path(dataset).expanduser().exists():
        return load_image_dataset(dataset)["train"].features["label"].names
    features = _from_hub(load_dataset_builder, dataset).info.features or {}
    label = features.get(_find_column(find_label_column, "label", features, dataset)) if features else None
    if isinstance(label, ClassLabel):
        return [_readable(name, dataset) for name in label.names]
    return load_image_dataset(dataset)["train"].features["label"].names


def _load_splits(dataset: str) -> DatasetDict:
    path = Path(dataset).expanduser()
    if dataset in TASKS:
        if path.exists():
            logger.warning(f"{dataset} is taken as the demo's task; for the folder of that name give ./{dataset}.")
        splits = load_task(dataset)
    elif (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        splits = _loaded(partial(load_from_disk, str(path)), f"{dataset} is no data set that save_to_disk saved")
    elif path.is_dir():
        splits = _loaded(partial(load_dataset, "imagefolder", data_dir=str(path)), f"{dataset} is no folder of images")
    else:
        splits = _from_hub(load_dataset, dataset)
    if isinstance(splits, Dataset):
        splits = DatasetDict(train=splits)
    for other in ("val", "valid", "dev"):
        if other in splits and "validation" not in splits:
            splits["validation"] = splits.pop(other)
    if "train" not in splits:
        raise ValueError(f"{dataset} has no split named 'train'; it has {', '.join(splits)}.")
    return splits


def _from_hub(load: Callable[[str], T], dataset: str) -> T:
    problem = f"There is no file, folder, demo task or data set on the Hub {dataset!r}"
    return _loaded(partial(load, canonical_name(dataset)), problem)


def _loaded(load: Callable[[], T], problem: str) -> T:
    try:
        return load()
    except (OSError, DatasetsError) as error:
        raise ValueError(f"{problem} ({error}).") from error


def _find_column(
    find: Callable[[Mapping[str, Any]], str | None], kind: str, columns: Mapping[str, Any], dataset: str
) -> str:
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


def _with_class_labels(splits: DatasetDict, dataset: str) -> DatasetDict:
    label = splits["train"].features["label"]
    if isinstance(label, Value) and label.dtype in ("string", "large_string"):
        names = sorted({name for split in splits.values() for name in split.unique("label") if name is not None})
        splits = splits.cast_column("label", ClassLabel(names=names))
    elif isinstance(label, ClassLabel):
        names = label.names
        if others := [name for name, split in splits.items() if split.features["label"] != label]:
            raise ValueError(
                f"In {dataset}, the labels of the {others[0]} split do not name the same classes in the same order as "
                "those of the train split; cast both to the same ClassLabel."
            )
    else:
        kind = f"{label.dtype} numbers" if isinstance(label, Value) else f"of type {type(label).__name__}, numbers"
        raise ValueError(
            f"The labels of {dataset} are {kind} without names, and prompts need names; cast the column to a "
            "ClassLabel with names, or name a column of strings with label_column."
        )
    names = [_readable(name, dataset) for name in names]
    if len(names) < 2:
        raise ValueError(f"Classification needs at least two classes, but {dataset} has {len(names)}: {names}.")
    if empty := [index for index, name in enumerate(names) if not name]:
        raise ValueError(f"In {dataset}, classes {empty} have no name; a prompt needs one. Name them.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"In {dataset}, several classes are named {repeated}; rename or merge them.")
    return splits.cast_column("label", ClassLabel(names=names))


def _readable(name: str, dataset: str) -> str:
    """A class's name as it stands in a text: words between single spaces, of characters that can be seen."""
    hidden = [c for c in name if not c.isspace() and unicodedata.category(c) in HIDDEN and c not in JOINERS]
    if hidden:
        raise ValueError(
            f"In {dataset}, the name of class {name!r} has the control character {hidden[0]!r}; rename the class."
        )
    return " ".join(name.replace("_", " ").split())


def _labelled(split: Dataset, name: str, dataset: str) -> Dataset:
    """The rows that have a label; how many have none is logged."""
    labels = split.select_columns("label").with_format("arrow")[:]["label"].fill_null(-1).to_numpy()
    kept = np.flatnonzero(labels >= 0)
    if len(kept) < len(labels):
        logger.warning(
            f"{len(labels) - len(kept)} of {len(labels)} images in the {name} split of {dataset} have no label and "
            "are left out."
        )
        split = split.select(kept)
    check_labels(labels[kept], split.features["label"].names, f"the {name} split of {dataset}")
    return split


def _check_images_are_there(split: Dataset, name: str, dataset: str) -> None:
    missing = 0
    for table in split.with_format("arrow").iter(1000):
        image = table["image"]
        neither = pc.and_(pc.is_null(pc.struct_field(image, "bytes")), pc.is_null(pc.struct_field(image, "path")))
        missing += pc.sum(pc.or_(pc.is_null(image), neither)).as_py()
    if missing:
        raise ValueError(
            f"{missing} of {len(split)} images in the {name} split of {dataset} are missing (None); remove their rows."
        )


def _say_which_classes_have_no_images(train: Dataset, dataset: str) -> None:
    names = train.features["label"].names
    if without := [name for name, count in zip(names, class_counts(train), strict=True) if count == 0]:
        logger.warning(
            f"{len(without)} of the {len(names)} classes of {dataset} have no training images: {shortened(without)}."
        )


def _with_test_split(splits: DatasetDict, dataset: str) -> DatasetDict:
    if "test" in splits:
        return splits
    if "validation" in splits:
        logger.warning(f"{dataset} has no test split; its validation split is used for testing.")
        return DatasetDict(train=splits["train"], test=splits["validation"])
    _check_enough_to_hold_out(splits["train"], dataset)
    logger.warning(f"{dataset} has no test split; 30 % of its training split is held out, stratified by class.")
    return splits["train"].train_test_split(test_size=HELD_OUT, stratify_by_column="label", seed=0)


def _check_enough_to_hold_out(train: Dataset, dataset: str) -> None:
    counts = Counter(train["label"])
    label, count = min(counts.items(), key=lambda item: item[1])
    if count < 2 or math.ceil(HELD_OUT * len(train)) < len(counts):
        raise ValueError(
            f"{dataset} has no test split, and too few images to hold some of every class out: {len(train)} for "
            f"{len(counts)} classes, of which {train.features['label'].names[label]!r} has {count}. Add images (4 per "
            "class are enough) or a test split."
        )
