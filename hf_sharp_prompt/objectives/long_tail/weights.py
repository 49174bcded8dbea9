"""What the classes weigh, by their numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def effective_number_weights(counts: Sequence[int], beta: float = 0.9999) -> torch.Tensor:
    """Class weights for re-weighting: `w_c ∝ (1-β)/(1-β^n_c)`, normalised to sum C.

    Args:
        counts: n_c, the samples of each class, by label.
        beta: 0 weighs all classes equally; the nearer to 1, the nearer the weights to 1/n_c. LDAM's DRW: 0.9999,
            RSAM-PT's: 0.9998.

    Returns:
        The weights, float64.

    Raises:
        ValueError: A class without samples, or β outside [0, 1).

    Reference:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
        https://arxiv.org/abs/1901.05555; deferred by Cao et al., https://arxiv.org/abs/1906.07413
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, got {beta!r}.")
    weights = (1 - beta) / (1 - beta ** as_counts(counts))
    return weights * len(weights) / weights.sum()


def mean_weight(weights: torch.Tensor, counts: Sequence[int]) -> float:
    """What a training sample weighs on average: `Σ n_c·w_c / Σ n_c`.

    Well below 1 for weights that favour rare classes: 0.22 for CIFAR100-LT. The released codes of LDAM and RSAM-PT
    divide by the sum of each batch's weights, which in the mean is this; dividing the weights by it gives steps of
    the size of theirs. (In the Trainer the weighted mean is over the step's whole batch, exactly.)
    """
    counts = as_counts(counts).to(weights)
    return float((weights * counts).sum() / counts.sum())


def as_counts(counts: Sequence[int]) -> torch.Tensor:
    counts = torch.as_tensor(counts, dtype=torch.float64)
    if empty := (counts < 1).nonzero().flatten().tolist():
        raise ValueError(f"Classes {empty} have no training samples; every class needs at least one.")
    return counts
