"""Long-tailed training sets: profiles of class counts, subsampling, and the classes of the tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from .labels import class_names_of, labels_of


def exponential_counts(num_classes: int, largest: float, imbalance: float) -> list[int]:
    """The exponential profile: `n_c = largest · imbalance^(-c/(C-1))`, rounded down, as in CIFAR-LT.

    Args:
        num_classes: C, the number of classes.
        largest: Number of samples of the first class (CIFAR100-LT: 500).
        imbalance: The imbalance factor: number of samples of the first class over that of the last one.

    Returns:
        The number of samples of each class, in descending order.

    Raises:
        ValueError: There are fewer than two classes, the imbalance is below 1, or the last class has no samples.

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
    """The Pareto profile of ImageNet-LT: quantiles of a Pareto distribution, stretched to two extremes.

    The class of rank c = 1 … C gets the quantile `(c/C)^(-1/α)`, which falls from `C^(1/α)` to 1; rounded down.

    ImageNet-LT itself is one random draw, and only its file list was published: 115,846 images, at most 1280 and at
    least 5 per class. This profile with its defaults has 121,449 images; to train on ImageNet-LT, use the list.

    Args:
        num_classes: C, the number of classes.
        largest: Number of samples of the first class.
        smallest: Number of samples of the last class.
        alpha: Power of the distribution; the larger, the more classes lie between the extremes.

    Returns:
        The number of samples of each class, in descending order.

    Raises:
        ValueError: There are fewer than two classes, the extremes are below 1 or in the wrong order, or the power is
            not positive.

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
    """Keep a number of samples of each class, drawn at random.

    On CIFAR with seed 0 these are the same images as in CIFAR-LT's code: one `numpy.random.RandomState(seed)` shuffles
    class after class, by label. A smaller count keeps a part of what a larger one keeps.

    Args:
        dataset: A data set with a column of labels.
        counts: Number of samples to keep of each class, in the order of `order`, as [`exponential_counts`] and
            [`pareto_counts`] return them.
        order: The labels from head to tail. By default 0, 1, 2, …
        seed: Seed of the draw.
        label_column: The column of labels. By default it is found as in [`labels_of`].

    Returns:
        The samples kept, in their old order.

    Raises:
        ValueError: The number of counts is not the number of classes, the order is not one of the labels, a count is 0
            or above the number of samples, or a sample has no label.

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
        raise ValueError(f"The dataset has {len(names)} classes, but counts has {len(counts)}; give one for each.")
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
    """Find the classes with fewer samples than a threshold, whose sharpness `imbsam` minimises.

    Args:
        counts: Number of samples of each class, by label.
        threshold: The paper's η (20 in its code, for CIFAR100-LT with an imbalance of 100).

    Returns:
        Labels, in ascending order.

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
        raise ValueError("counts is empty; give the number of samples of each class.")
    if not tail:
        raise ValueError(
            f"No class has fewer than {threshold} samples, the rarest has {min(counts)}; raise the threshold above it."
        )
    return tail
