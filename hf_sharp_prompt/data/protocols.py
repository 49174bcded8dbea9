"""The published sampling protocols: few-shot training sets, and base and novel classes."""

from __future__ import annotations

import logging
import random
from collections import defaultdict

from datasets import ClassLabel, Dataset, DatasetDict


logger = logging.getLogger(__name__)


def few_shot(splits: DatasetDict, shots: int, seed: int) -> DatasetDict:
    """Draw a few training images per class, the very ones that CoOp's code draws from images in the same order.

    Classes in order of first appearance, `random.sample(images, shots)` each, after `random.seed(seed)`; then from the
    same random stream min(shots, 4) validation images per class. A class with fewer images gives all that it has, and
    a warning says so.

    Args:
        splits: `train` and perhaps `validation`, with a `label` column; other splits are kept as they are.
        shots: Training images per class.
        seed: Of the random stream.

    Returns:
        The same splits, `train` and `validation` sampled.

    Reference:
        Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, https://arxiv.org/abs/2109.01134
    """
    stream = random.Random(seed)
    sampled = DatasetDict(splits)
    for split, count in (("train", shots), ("validation", min(shots, 4))):
        if split in splits:
            sampled[split] = splits[split].select(_sample(splits[split], split, count, stream))
    return sampled


def _sample(dataset: Dataset, split: str, count: int, stream: random.Random) -> list[int]:
    members = defaultdict(list)
    for index, label in enumerate(dataset["label"]):
        members[label].append(index)
    names = dataset.features["label"].names
    if small := [f"{names[label]} ({len(indices)})" for label, indices in members.items() if len(indices) < count]:
        logger.warning(
            f"Of the {split} split, these classes have fewer than the {count} images to draw and give all of them: "
            f"{', '.join(small)}."
        )
    return [
        index
        for indices in members.values()
        for index in (indices if len(indices) < count else stream.sample(indices, count))
    ]


def base_to_novel(splits: DatasetDict) -> tuple[DatasetDict, DatasetDict]:
    """Split the classes into base classes, to learn from, and novel ones, to generalise to.

    The labels sorted, the first ceil(C/2) are base and the rest novel, each relabelled from 0.

    Args:
        splits: Splits with a `label` column, a `ClassLabel` of C names.

    Returns:
        The splits of the base classes and those of the novel classes.

    Reference:
        Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022,
        https://arxiv.org/abs/2203.05557
    """
    count = len(splits["train"].features["label"].names)
    n_base = (count + 1) // 2
    return _restrict(splits, range(n_base)), _restrict(splits, range(n_base, count))


def _restrict(splits: DatasetDict, classes: range) -> DatasetDict:
    names = splits["train"].features["label"].names
    label = ClassLabel(names=[names[index] for index in classes])
    restricted = DatasetDict()
    for name, split in splits.items():
        kept = [index for index, value in enumerate(split["label"]) if value in classes]
        split = split.select(kept)
        relabelled = [value - classes.start for value in split["label"]]
        restricted[name] = split.remove_columns("label").add_column("label", relabelled, feature=label)
    return restricted
