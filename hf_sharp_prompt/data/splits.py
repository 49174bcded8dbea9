"""Name the splits of a data set, and add a test split where there is none."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict

from ..compat.datasets import column_of, replace_column
from .bad_images import image_files


logger = logging.getLogger(__name__)

HELD_OUT = 0.3
"""The share of the training images that is tested on where there is no other split."""

VALIDATION_NAMES = ("val", "valid", "dev")
"""Other names of the validation split."""


def with_usual_names(data: Dataset | DatasetDict, source_names: Mapping[str, str], dataset: str) -> DatasetDict:
    """Name the splits `train`, `validation` and `test`.

    Args:
        data: What a layout has read. Data without splits are the training split.
        source_names, dataset: As for [`usual_names`].

    Raises:
        ValueError: As of [`usual_names`].
    """
    splits = DatasetDict(train=data) if isinstance(data, Dataset) else data
    return DatasetDict({usual: splits[name] for usual, name in usual_names([*splits], source_names, dataset).items()})


def usual_names(names: Sequence[str], source_names: Mapping[str, str], dataset: str) -> dict[str, str]:
    """Find the usual names of splits.

    Args:
        names: The names of the splits that there are.
        source_names: Usual name → the name of the split to use for it. Empty: all splits are kept, and `val`, `valid`
            and `dev` are `validation`.
        dataset: The data set, for errors.

    Returns:
        Usual name → name of the split.

    Raises:
        ValueError: A split that is not there; neither a training nor a test split.
    """
    if lacking := [name for name in source_names.values() if name not in names]:
        raise ValueError(f"{dataset} has no split named {lacking[0]!r}; it has {', '.join(names)}.")
    if source_names:
        return dict(source_names)
    usual = {name: name for name in names}
    for name in VALIDATION_NAMES:
        if name in usual and "validation" not in usual:
            usual["validation"] = usual.pop(name)
    if "train" not in usual and "test" not in usual:
        raise ValueError(f"{dataset} has no split named 'train'; it has {', '.join(usual)}.")
    return usual


def without_classes(splits: DatasetDict, names: Sequence[str]) -> DatasetDict:
    """Leave out classes. The others keep their order and are numbered from 0.

    Args:
        splits: Splits with a `label` column. To leave classes out, it must be a `ClassLabel`.
        names: The names of the classes to leave out. Names of no class are passed over.
    """
    if not names:
        return splits
    all_names = splits[next(iter(splits))].features["label"].names
    used = [label for label, name in enumerate(all_names) if name not in names]
    new_label = np.full(len(all_names), -1)
    new_label[used] = range(len(used))
    feature = ClassLabel(names=[all_names[label] for label in used])
    kept = DatasetDict()
    for split, rows in splits.items():
        labels = column_of(rows, "label").fill_null(-1).to_numpy()
        new = np.where(labels < 0, -1, new_label[labels])
        indices = np.flatnonzero((labels < 0) | (new >= 0))
        kept[split] = replace_column(rows.select(indices), "label", new[indices], feature)
    return kept


def with_test_split(splits: DatasetDict, dataset: str) -> DatasetDict:
    """Add a test split where there is none: the validation split, or else a part of the training split.

    Args:
        splits: Splits. Where images have a `label`, a `ClassLabel`, the part is stratified by class.
        dataset: The data set, for messages.

    Raises:
        ValueError: Too few training images to hold some out, of every class where they have one.
    """
    if "test" in splits:
        return splits
    if "validation" in splits:
        logger.warning(f"{dataset} has no test split; its validation split is used for testing.")
        return DatasetDict(train=splits["train"], test=splits["validation"])
    if "label" not in splits["train"].column_names:
        if len(splits["train"]) < 2:
            raise ValueError(f"{dataset} has no test split, and too few images to hold some out; add a test split.")
        logger.warning(f"{dataset} has no test split; 30 % of its training split is held out.")
        return splits["train"].train_test_split(test_size=HELD_OUT, seed=0)
    _check_enough_to_hold_out(splits["train"], dataset)
    logger.warning(f"{dataset} has no test split; 30 % of its training split is held out, stratified by class.")
    return splits["train"].train_test_split(test_size=HELD_OUT, stratify_by_column="label", seed=0)


def _check_enough_to_hold_out(train: Dataset, dataset: str) -> None:
    if repeated := [file for file, count in Counter(image_files(train)).items() if count > 1]:
        raise ValueError(
            f"{dataset} has no test split, and none can be held out, since {len(repeated)} of its images are listed "
            f"more than once, such as {repeated[0]}; list each image once, or add a test split."
        )
    counts = Counter(train["label"])
    label, count = min(counts.items(), key=lambda item: item[1])
    if count < 2 or math.ceil(HELD_OUT * len(train)) < len(counts):
        raise ValueError(
            f"{dataset} has no test split, and too few images to hold some of every class out: {len(train)} for "
            f"{len(counts)} classes, of which {train.features['label'].names[label]!r} has {count}. Add images (4 per "
            "class are enough) or a test split."
        )
