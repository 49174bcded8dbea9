"""What a trained adapter reaches on a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from rich.table import Column, Table
from transformers import EvalPrediction

from .. import metrics, progress
from ..data import labels_of, load_image_dataset
from ..hyperparameters import nearest
from .classifier import Classifier, has_fixed_classes, load_classifier, read_config
from .in_order import probabilities_in_order


def load_split(dataset: str, split: str | None, **loading: Any) -> tuple[str, datasets.Dataset]:
    """Load the images to measure on.

    Args:
        dataset: As `load_image_dataset` takes it.
        split: The split's name; None for the test split, or for the only one.
        **loading: Further arguments of `load_image_dataset`.

    Returns:
        The split's name, and its images.

    Raises:
        ValueError: There is no such split, or none of several is named; the data set cannot be loaded.
    """
    with PartialState().local_main_process_first():
        splits = load_image_dataset(dataset, **loading, needs_test_split=False)
    split = split or ("test" if len(splits) > 1 else next(iter(splits)))
    if split not in splits:
        raise ValueError(f"{dataset} has no {split} split; it has {', '.join(splits)}. Name one with --split.")
    return split, splits[split]


def load_classifier_for(
    class_names: Sequence[str], adapter: str, model: str | None = None, template: str | None = None
) -> Classifier:
    """Load an adapter that classifies into these classes, or, if its own are fixed, into more.

    Args:
        class_names: The classes of a data set.
        adapter, model, template: As for [`load_classifier`].

    Raises:
        ValueError: A class that an adapter with fixed classes does not have.
    """
    config = read_config(adapter)
    if not has_fixed_classes(config) and {*(config.class_names or ())} != {*class_names}:
        return load_classifier(adapter, model, class_names, template)
    classifier = load_classifier(adapter, model, None, template)
    own = classifier.class_names
    if unknown := [name for name in class_names if name not in own]:
        raise ValueError(
            f"The data set has a class {unknown[0]!r}, which {adapter} does not have{nearest(unknown[0], own)} With "
            f"--class_names, name the data set's classes as the adapter does: {', '.join(own)}."
        )
    return classifier


def measure(
    classifier: Classifier, images: datasets.Dataset, batch_size: int, num_workers: int | None = None
) -> dict[str, Any]:
    """Measure accuracies and calibration.

    Args:
        classifier: The model with its adapter, whose classes include the data set's.
        images: A data set with an `image` and a `label` column.
        batch_size: Images classified at a time.
        num_workers: Processes that read images; chosen by default.

    Returns:
        The number of `images`; `accuracy`, `mean_per_class_accuracy` and `expected_calibration_error`, from 0 to 1;
        and `per_class_accuracy` by name, None for a class without images.

    Raises:
        ValueError: An image that cannot be read; no images.
    """
    names = images.features["label"].names
    labels = np.array([classifier.class_names.index(name) for name in names])[labels_of(images)]
    if not len(labels):
        raise ValueError("There are no images to measure on; name another split with --split.")
    found = []
    for number, answer in enumerate(
        probabilities_in_order(classifier, images["image"], batch_size, num_workers), start=1
    ):
        if isinstance(answer, str):
            raise ValueError(answer)
        found.append(answer)
        progress.report("measuring", number, len(labels))
    probabilities = torch.stack(found)
    accuracies = metrics.load("per_class_accuracy").compute(
        predictions=probabilities.argmax(dim=1), references=labels, num_classes=len(classifier.class_names)
    )
    assert accuracies is not None  # It is None where several processes compute a metric together.
    log_probabilities = probabilities.log().numpy()  # These are logits, too.
    calibration = metrics.compute("expected_calibration_error", EvalPrediction(log_probabilities, labels))
    by_name = dict(zip(classifier.class_names, accuracies["per_class_accuracy"], strict=True))
    return {
        "images": len(labels),
        "accuracy": accuracies["accuracy"],
        "mean_per_class_accuracy": accuracies["mean_per_class_accuracy"],
        "expected_calibration_error": calibration["expected_calibration_error"],
        "per_class_accuracy": {name: None if math.isnan(by_name[name]) else by_name[name] for name in names},
    }


def make_table(measured: dict[str, Any]) -> Table:
    """Make a table of what `measure` returns, in percent."""
    table = Table("class", Column("accuracy", justify="right"))
    for name, accuracy in measured["per_class_accuracy"].items():
        table.add_row(name, in_percent(accuracy))
    table.add_section()
    table.add_row("all images", in_percent(measured["accuracy"]))
    table.add_row("mean of the classes", in_percent(measured["mean_per_class_accuracy"]))
    table.add_row("expected calibration error", in_percent(measured["expected_calibration_error"]))
    return table


def in_percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
