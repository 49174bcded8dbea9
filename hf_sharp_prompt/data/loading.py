"""From whatever a user names as data to splits with an `image` and a `label` column."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

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


logger = logging.getLogger(__name__)

HELD_OUT = 0.3
"""The share of the training images that is tested on where there is no other split."""


def load_image_dataset(dataset: str, image_column: str | None = None, label_column: str | None = None) -> DatasetDict:
    """Load images and labels for classification.

    Args:
        dataset: A task of the embedded demo, a data set that `save_to_disk` saved, a folder in `imagefolder` layout
            (one folder per class, in one folder per split), or a data set's id on the Hub.
        image_column: The column of the images. By default the one whose feature is an `Image`.
        label_column: The column of the labels. By default the one whose feature is a `ClassLabel`; a column of strings
            has to be named.

    Returns:
        Splits `train` and `test`, and `validation` where there is one, each with an `image` column that is not yet
        decoded and a `label` column, a `ClassLabel`. In class names, underscores have become spaces. Without a test
        split the validation split is the test split; without either, 30 % of the training split, stratified.

    Raises:
        ValueError: No image or label column, or several of which none is named; fewer than two classes; a class with
            an empty name, or two with the same; splits that number their classes differently; too few images to hold
            a test split out.
    """
    splits = _load_splits(dataset)
    image_column = image_column or _find_column(splits["train"], Image, "image", dataset)
    label_column = label_column or _find_column(splits["train"], ClassLabel, "label", dataset)
    for column in (image_column, label_column):
        if column not in splits["train"].column_names:
            raise ValueError(f"{dataset} has no column {column!r}; it has {', '.join(splits['train'].column_names)}.")
    splits = splits.select_columns([image_column, label_column])
    splits = splits.rename_columns({image_column: "image"} if image_column != "image" else {})
    splits = splits.rename_columns({label_column: "label"} if label_column != "label" else {})
    splits = _with_class_labels(splits, dataset)
    return _with_test_split(splits.cast_column("image", Image(decode=False)), dataset)


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
    try:
        features = load_dataset_builder(dataset).info.features or {}
    except (OSError, DatasetsError) as error:
        raise ValueError(
            f"There is no file, folder, demo task or data set on the Hub {dataset!r} to take names from ({error})."
        ) from error
    labels = [feature for feature in features.values() if isinstance(feature, ClassLabel)]
    if len(labels) > 1:
        raise ValueError(f"{dataset} has several columns of class labels; write the names to a text file, one a line.")
    names = labels[0].names if labels else load_image_dataset(dataset)["train"].features["label"].names
    return [name.replace("_", " ").strip() for name in names]


def _load_splits(dataset: str) -> DatasetDict:
    path = Path(dataset).expanduser()
    if dataset in TASKS:
        splits = load_task(dataset)
    elif (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        splits = load_from_disk(str(path))
    elif path.is_dir():
        splits = load_dataset("imagefolder", data_dir=str(path))
    else:
        splits = load_dataset(dataset)
    if isinstance(splits, Dataset):
        splits = DatasetDict(train=splits)
    if "train" not in splits:
        raise ValueError(f"{dataset} has no split named 'train'; it has {', '.join(splits)}.")
    return splits


def _find_column(split: Dataset, feature: type, kind: str, dataset: str) -> str:
    found = [column for column, of in split.features.items() if isinstance(of, feature)]
    if len(found) == 1:
        return found[0]
    problem = f"several {kind} columns ({', '.join(found)})" if found else f"no {kind} column"
    columns = ", ".join(f"{column} ({type(of).__name__})" for column, of in split.features.items())
    raise ValueError(f"{dataset} has {problem}; name the one to use with --{kind}_column. Its columns are: {columns}.")


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
            "ClassLabel with names, or name a column of strings with --label_column."
        )
    names = [name.replace("_", " ").strip() for name in names]
    if len(names) < 2:
        raise ValueError(f"Classification needs at least two classes, but {dataset} has {len(names)}: {names}.")
    if empty := [index for index, name in enumerate(names) if not name]:
        raise ValueError(f"In {dataset}, classes {empty} have no name; a prompt needs one. Name them.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"In {dataset}, several classes are named {repeated}; rename or merge them.")
    return splits.cast_column("label", ClassLabel(names=names))


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
