"""Which samples of a batch count, whether their labels are class indices or probabilities of the classes."""

from __future__ import annotations

import torch


IGNORED = -100
"""The label of samples that do not count, where labels are class indices."""


def are_soft(labels: torch.Tensor) -> bool:
    """Tell whether labels are probabilities, samples × classes, as mixup and CutMix make them."""
    return labels.is_floating_point() and labels.dim() == 2


def counted(labels: torch.Tensor) -> torch.Tensor:
    """Tell for each sample whether it counts: its label is not -100, or its probabilities are not all 0."""
    return labels.ne(0).any(dim=1) if are_soft(labels) else labels != IGNORED


def ignore(labels: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
    """Return the labels such that the ignored samples do not count.

    Args:
        labels: Class indices, samples; or probabilities, samples × classes.
        ignored: For each sample whether it is ignored.
    """
    if are_soft(labels):  # The cross entropy with probabilities of 0 is 0.
        return labels.masked_fill(ignored[:, None], 0)
    return labels.masked_fill(ignored, IGNORED)
