"""Class weights from the classes' numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def effective_number_weights(counts: Sequence[int], beta: float = 0.9999) -> torch.Tensor:
    """Return class weights for re-weighting: `w_c ∝ (1-β)/(1-β^n_c)`, which sum to the number of classes.

    Args:
        counts: n_c, the number of samples of each class, by label.
        beta: β. With 0 all classes weigh the same; as β nears 1, the weights near 1/n_c. LDAM's DRW uses 0.9999,
            RSAM-PT uses 0.9998.

    Returns:
        A weight per class, float64.

    Raises:
        ValueError: A class has no samples, or β is outside [0, 1).

    Reference:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
        https://arxiv.org/abs/1901.05555; deferred by Cao et al., https://arxiv.org/abs/1906.07413
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, got {beta!r}.")
    weights = (1 - beta) / (1 - beta ** as_counts(counts))
    return weights * len(weights) / weights.sum()


def mean_weight(weights: torch.Tensor, counts: Sequence[int]) -> float:
    """Return the average weight of a training sample: `Σ n_c·w_c / Σ n_c`.

    It is well below 1 for weights that favour rare classes: 0.22 for CIFAR100-LT. The released codes of LDAM and
    RSAM-PT divide by the sum of each batch's weights, whose mean per sample is this value. Weights divided by it give
    steps as large as theirs. (The Trainer takes the weighted mean over the step's whole batch.)
    """
    samples = as_counts(counts).to(weights)
    return float((weights * samples).sum() / samples.sum())


def as_counts(counts: Sequence[int]) -> torch.Tensor:
    """Return the counts as a float64 tensor.

    Raises:
        ValueError: A class has no samples.
    """
    checked = torch.as_tensor(counts, dtype=torch.float64)
    if empty := (checked < 1).nonzero().flatten().tolist():
        raise ValueError(f"Classes {empty} have no training samples; every class needs at least one.")
    return checked
