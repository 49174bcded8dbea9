"""What `--smoke` makes small, so that a command can be tried in seconds. What it measures is no result."""

from __future__ import annotations

import dataclasses
from typing import Any

import datasets
import numpy as np

from ..data import labels_of, only_classes
from ..training.arguments import SharpPromptTrainingArguments


CLASSES, IMAGES = 8, 2
"""How many classes are kept, and how many images of each in every split."""
NOTE = "This is a smoke test of a few images, one seed and two epochs: its figures are no result."


def with_few_images(splits: datasets.DatasetDict) -> datasets.DatasetDict:
    """Keep the first images of the first classes."""
    names = next(iter(splits.values())).features["label"].names
    kept = only_classes(splits, range(min(CLASSES, len(names))))
    return datasets.DatasetDict({name: first_of_each_class(split) for name, split in kept.items()})


def first_of_each_class(split: datasets.Dataset) -> datasets.Dataset:
    """Keep the first images of each class, in their order."""
    labels = labels_of(split)
    firsts = [np.flatnonzero(labels == label)[:IMAGES] for label in np.unique(labels)]
    return split.select(np.sort(np.concatenate(firsts)))


def shortened(training: SharpPromptTrainingArguments) -> SharpPromptTrainingArguments:
    """Training arguments for two epochs, into a directory beside the output directory, without a push."""
    stages: dict[str, Any] = {"reweighting_epochs": [1]} if training.reweighting_epochs else {}
    if training.subspace_epochs is not None:
        stages |= {"subspace_epochs": 2, "subspace_rank": 1}
    output_dir = f"{(training.output_dir or '').rstrip('/')}-smoke"
    return dataclasses.replace(
        training, output_dir=output_dir, num_train_epochs=2, max_steps=-1, push_to_hub=False, **stages
    )
