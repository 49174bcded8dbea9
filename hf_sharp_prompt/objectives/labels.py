"""Which labels of a batch count: class indices of samples, objects or pixels, or probabilities of the classes."""

from __future__ import annotations

import torch


IGNORED = -100
"""The label of samples, objects and pixels that do not count, where labels are class indices."""

NO_OBJECT = -1
"""The label of an image without objects, as its only one: it counts, and all in it is background."""


def are_soft(labels: torch.Tensor) -> bool:
    """Tell whether labels are probabilities, samples × classes, as mixup and CutMix make them."""
    return labels.is_floating_point() and labels.dim() == 2


def counted(labels: torch.Tensor) -> torch.Tensor:
    """Tell for each label whether it counts.

    Args:
        labels: Class indices of samples, samples; of objects, samples × most objects; of pixels, samples × height ×
            width; those that are -100 do not count. Or probabilities, samples × classes, where a sample does not count
            whose probabilities are all 0.

    Returns:
        In the shape of the labels; for probabilities one value for each sample.
    """
    return labels.ne(0).any(dim=1) if are_soft(labels) else labels != IGNORED


def ignore(labels: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
    """Return the labels such that the ignored samples do not count.

    Args:
        labels: Class indices, samples × …, or probabilities, samples × classes.
        ignored: For each sample whether it is ignored.
    """
    # The cross entropy with probabilities of 0 is 0.
    by_sample = ignored.reshape(-1, *[1] * (labels.dim() - 1))
    return labels.masked_fill(by_sample, 0 if are_soft(labels) else IGNORED)
