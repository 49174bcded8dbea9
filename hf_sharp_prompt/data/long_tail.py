"""Long-tailed training sets: how many samples each class has, fewer for the rare ones, and which classes are rare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from .labels import class_names_of, labels_of


def exponential_counts(num_classes: int, largest: float, imbalance: float) -> list[int]:
    """The exponential profile: `n_c = largest · imbalance^(-c/(C-1))`, rounded down, as in CIFAR-LT.

    Args:
        num_classes: C.
        largest: The first class's samples; CIFAR100-LT: 500.
        imbalance: The first class's samples over the last one's, the imbalance factor.

    Returns:
        The samples of each class, never rising.

    Raises:
        ValueError: Fewer than two classes, an imbalance below 1, or a last class without samples.

    Example:
        ```py
        >>> exponential_counts(3, largest=500, imbalance=100)
        [500, 50, 5]
        ```

    Reference:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        https://arxiv.org/abs/1906.07413
    """
    _check_two_classes(num_classes)
    if not imbalance >= 1:
        raise ValueError(f"imbalance must be at least 1, the largest class over the smallest; got {imbalance!r}.")
    counts = [int(largest / imbalance ** (c / (num_classes - 1))) for c in range(num_classes)]
    if counts[-1] == 0:
        raise ValueError(
            f"With {largest:g} samples in the largest class and an imbalance of {imbalance:g}, the smallest class "
            f"would have none; lower the imbalance to at most {largest:g}."
        )
    return counts


def pareto_counts(num_classes: int, largest: int = 1280, smallest: int = 5, alpha: float = 6.0) -> list[int]:
    """The Pareto profile of ImageNet-LT: quantiles of a Pareto distribution, stretched to the given extremes.

    The class of rank c = 1 … C gets the quantile `(c/C)^(-1/α)`, which falls from `C^(1/α)` to 1; rounded down.

    ImageNet-LT itself is one random draw and only its file list was published: 115,846 images, maximally 1280 and
    minimally 5 of a class. This profile with its defaults has 121,449; for those very images use the list.

    Args:
        num_classes: C.
        largest: The first class's samples.
        smallest: The last class's samples.
        alpha: Power of the distribution; the larger, the more classes lie between the extremes.

    Returns:
        The samples of each class, never rising.

    Raises:
        ValueError: Fewer than two classes, extremes below 1 or in the wrong order, or a power that is not positive.

    Reference:
        Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019,
        https://arxiv.org/abs/1904.05160
    """
    _check_two_classes(num_classes)
    if not 1 <= smallest <= largest:
        raise ValueError(f"1 <= smallest <= largest must hold, got smallest={smallest!r} and largest={largest!r}.")
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha!r}.")
    quantiles = (np.arange(1, num_classes + 1) / num_classes) ** (-1 / alpha)
    share = (quantiles - quantiles[-1]) / (quantiles[0] - quantiles[-1])
    return [int(count) for count in smallest + (largest - smallest) * share]


def _check_two_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"A long tail needs at least two classes, got {num_classes}.")


def subsample(
    dataset: Dataset,
    counts: Sequence[int],
    order: Sequence[int] | None = None,
    seed: int = 0,
    label_column: str | None = None,
) -> Dataset:
    """Keep a given number of samples of each class, drawn at random.

    On CIFAR and with seed 0 these are the very images of CIFAR-LT's code: classes by label, each shuffled by one
    `numpy.random.RandomState(seed)`. A smaller count keeps a part of what a larger one keeps.

    Args:
        dataset: With a column of labels.
        counts: How many samples to keep, of the class that comes first in `order`, of the second, and so on; as
            [`exponential_counts`] and [`pareto_counts`] return them.
        order: The labels from head to tail. By default 0, 1, 2, …
        seed: Of the draw.
        label_column: The column of labels. By default it is found as by [`labels_of`].

    Returns:
        The samples kept, in the order in which they were.

    Raises:
        ValueError: Not one count for each class, an order that is none of the labels, a count of 0, or one above what
            there is; samples without a label.

    Example:
        ```py
        >>> counts = exponential_counts(100, largest=500, imbalance=100)
        >>> train = subsample(cifar100["train"], counts, label_column="fine_label")
        ```
    """
    labels = labels_of(dataset, label_column)
    names = class_names_of(dataset, label_column) or [str(label) for label in range(labels.max(initial=-1) + 1)]
    order = range(len(names)) if order is None else order
    if len(counts) != len(names):
        raise ValueError(
            f"The dataset has {len(names)} classes, but {len(counts)} counts are given; give one for each."
        )
    if sorted(order) != list(range(len(names))):
        raise ValueError(f"order must hold each label from 0 to {len(names) - 1} once, got {list(order)}.")
    wanted = dict(zip(order, counts, strict=True))
    available = np.bincount(labels, minlength=len(names))
    by_class = np.split(np.argsort(labels, kind="stable"), available.cumsum()[:-1])
    random = np.random.RandomState(seed)
    kept = []
    for label, (name, members) in enumerate(zip(names, by_class, strict=True)):
        _check_enough(name, wanted[label], len(members))
        random.shuffle(members)
        kept.append(members[: wanted[label]])
    return dataset.select(np.sort(np.concatenate(kept)))


def _check_enough(name: str, wanted: int, available: int) -> None:
    if wanted < 1:
        raise ValueError(
            f"Class {name!r} would be left without samples; a class that is to be recognised needs at least one."
        )
    if wanted > available:
        raise ValueError(
            f"Class {name!r} has {available} samples, fewer than the {wanted} to keep; lower the largest class's "
            "count, or give an order in which this class comes later."
        )


def tail_classes(counts: Sequence[int], threshold: int = 20) -> list[int]:
    """The classes whose sharpness `imbsam` minimises: those with fewer samples than a threshold.

    Args:
        counts: The samples of each class, by label.
        threshold: The paper's η; 20 in its code, for CIFAR100-LT with an imbalance of 100.

    Returns:
        Labels, rising.

    Raises:
        ValueError: No class is that rare, or there are no classes.

    Example:
        ```py
        >>> sharpness_args = {"rho": 0.05, "tail_classes": tail_classes(class_counts(train))}
        ```

    Reference:
        Zhou et al., "ImbSAM: A Closer Look at Sharpness-Aware Minimization in Class-Imbalanced Recognition", ICCV
        2023, https://arxiv.org/abs/2308.07815
    """
    tail = [label for label, count in enumerate(counts) if count < threshold]
    if not len(counts):
        raise ValueError("There are no classes whose counts could be compared; give the samples of each class.")
    if not tail:
        raise ValueError(
            f"No class has fewer than {threshold} samples, the rarest has {min(counts)}; raise the threshold above it."
        )
    return tail
