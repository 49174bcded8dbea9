"""The published sampling protocols: few-shot training sets, and base and novel classes."""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict

from ..compat.datasets import replace_column
from .columns import find_label_column
from .labels import class_names_of, labels_of, shortened


logger = logging.getLogger(__name__)


def few_shot(splits: DatasetDict, shots: int, seed: int) -> DatasetDict:
    """Draw a few training images per class: the same ones as CoOp's code from images in the same order.

    After `random.seed(seed)`, `random.sample(images, shots)` is drawn for each class in order of first appearance, and
    then min(shots, 4) validation images per class from the same random stream. A class with fewer images gives all of
    them, in their order, and a warning counts such classes.

    Args:
        splits: `train` and perhaps `validation`, with a `label` column; other splits are kept as they are.
        shots: Training images per class, at least 1.
        seed: Seed of the random stream.

    Returns:
        The same splits, with `train` and `validation` sampled.

    Raises:
        ValueError: There is less than one shot, no `train` split, or an image without a label.

    Reference:
        Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, https://arxiv.org/abs/2109.01134
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, the training images of each class; got {shots!r}.")
    _check_has_training_split(splits)
    stream = random.Random(seed)
    sampled = DatasetDict(splits)
    for split, count in (("train", shots), ("validation", min(shots, 4))):
        if split in splits:
            sampled[split] = splits[split].select(_sample(splits[split], split, count, stream))
    return sampled


def _sample(dataset: Dataset, split: str, count: int, stream: random.Random) -> list[int]:
    members = defaultdict(list)
    for index, label in enumerate(labels_of(dataset).tolist()):
        members[label].append(index)
    _warn_of_small_classes(dataset, split, count, members)
    chosen = []
    for indices in members.values():
        chosen += stream.sample(indices, count) if len(indices) >= count else indices
    return chosen


def _warn_of_small_classes(dataset: Dataset, split: str, count: int, members: dict[int, list[int]]) -> None:
    names = dict(enumerate(class_names_of(dataset))) or {label: str(label) for label in members}
    counts = {name: len(members.get(label, ())) for label, name in names.items()}
    fewer = [f"{name} ({images})" for name, images in counts.items() if images < count]
    if fewer:
        logger.warning(
            f"{len(fewer)} of {len(names)} classes have fewer than {count} images in the {split} split, and all of "
            f"theirs are taken: {shortened(fewer)}."
        )


def base_to_novel(splits: DatasetDict) -> tuple[DatasetDict, DatasetDict]:
    """Split the classes into base classes, to learn from, and novel ones, to generalise to.

    The first ceil(C/2) labels are base and the rest novel; each half is relabelled from 0.

    Args:
        splits: Splits with a `label` column, a `ClassLabel` of C names.

    Returns:
        The splits of the base classes and those of the novel classes.

    Raises:
        ValueError: There is no `train` split, labels have no names, an image has no label or one of no class, or
            splits number their classes differently.

    Reference:
        Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022,
        https://arxiv.org/abs/2203.05557
    """
    _check_has_training_split(splits)
    names = class_names_of(splits["train"])
    if not names:
        raise ValueError("Base and novel classes need names; cast the labels to a ClassLabel with names.")
    if others := [name for name, split in splits.items() if class_names_of(split) != names]:
        raise ValueError(
            f"The labels of the {others[0]} split do not name the same classes in the same order as those of the "
            "train split; cast both to the same ClassLabel."
        )
    count = len(names)
    n_base = (count + 1) // 2
    return only_classes(splits, range(n_base)), only_classes(splits, range(n_base, count))


def only_classes(splits: DatasetDict, classes: Sequence[int]) -> DatasetDict:
    """Keep the images of some classes, relabelled from 0.

    Args:
        splits: Splits with a `label` column, a `ClassLabel` that is the same in all.
        classes: The labels to keep, in the order of their new ones.

    Returns:
        The same splits; an image's label is the place of its class in `classes`.
    """
    names = class_names_of(next(iter(splits.values())))
    label = ClassLabel(names=[names[index] for index in classes])
    places = np.full(len(names), -1)
    places[list(classes)] = np.arange(len(classes))
    restricted = DatasetDict()
    for name, split in splits.items():
        column = find_label_column(split.features) or "label"
        new_labels = places[labels_of(split, column)]
        kept = np.flatnonzero(new_labels >= 0)
        restricted[name] = replace_column(split.select(kept), column, new_labels[kept], label)
    return restricted


def _check_has_training_split(splits: DatasetDict) -> None:
    if "train" not in splits:
        raise ValueError(f"There is no split named 'train'; there are {', '.join(splits)}.")
