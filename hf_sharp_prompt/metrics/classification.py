"""What the metrics of classifiers share: their columns, checks of labels, and accuracy by group.

The metrics import it from the installed package, so that each can be loaded from its own folder with `evaluate.load`;
a copy of such a folder needs the package, too, and `evaluate` says so.
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value


def make_info(
    description: str, inputs: str, citation: str, urls: list[str], format: str | None = "numpy", **columns: Any
) -> evaluate.MetricInfo:
    """Describe a metric that compares predictions with references.

    Args:
        description, inputs, citation, urls: As `evaluate.MetricInfo` takes them.
        format: What the metric's `_compute` receives; None for Python's lists.
        **columns: Further columns, or others than class numbers: name → feature.
    """
    features = Features({"predictions": Value("int64"), "references": Value("int64")} | columns)
    return evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description=inputs,
        features=features,
        reference_urls=urls,
        format=format,
    )


def check_labels(name: str, labels: np.ndarray, num_classes: int, remedy: str) -> None:
    """Check that labels are numbers of classes.

    Args:
        name: The argument that they are in, for the error.
        labels: The labels, one per sample.
        num_classes: How many classes there are.
        remedy: What to do, for the error.

    Raises:
        ValueError: A label below 0, or not below the number of classes.
    """
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"{name}[{outside[0]}] is {labels[outside[0]]}, not one of the {num_classes} classes from 0 to "
            f"{num_classes - 1}; {remedy}."
        )


def accuracy_by_group(correct: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """The share of correct samples in each group; nan for a group without samples.

    Args:
        correct: Whether each sample is predicted correctly.
        groups: The number of each sample's group.
        num_groups: How many groups there are.
    """
    with np.errstate(invalid="ignore"):  # 0 of 0 samples
        return np.bincount(groups, weights=correct, minlength=num_groups) / np.bincount(groups, minlength=num_groups)
