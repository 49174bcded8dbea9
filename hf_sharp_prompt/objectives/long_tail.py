"""Losses for training sets in which some classes are rare.

Each takes logits as the model returns them and changes them in training, by what is known of the classes' counts; the
model and its predictions stay as they are. Re-weighting the classes goes with every one of them.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from ..hyperparameters import nearest


IGNORED = -100
"""The label of samples that do not count."""


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
    weights = (1 - beta) / (1 - beta ** _as_counts(counts))
    return weights * len(weights) / weights.sum()


def mean_weight(weights: torch.Tensor, counts: Sequence[int]) -> float:
    """What a training sample weighs on average: `Σ n_c·w_c / Σ n_c`.

    Well below 1 for weights that favour rare classes: 0.22 for CIFAR100-LT. The released codes of LDAM and RSAM-PT
    divide by the sum of each batch's weights, which in the mean is this; dividing the weights by it gives steps of
    the size of theirs. (In the Trainer the weighted mean is over the step's whole batch, exactly.)
    """
    counts = _as_counts(counts).to(weights)
    return float((weights * counts).sum() / counts.sum())


def weighted_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross entropy, each sample's weighted by its class: `Σ w_y·ℓ / n`.

    n counts samples, not weights, so the losses of micro-batches and of processes add up to the whole batch's; torch's
    own `cross_entropy(weight=…)` divides by the weights of the samples at hand, and they do not.

    Args:
        logits: Samples × classes.
        labels: Of each sample; those with -100 do not count.
        weights: Of each class; by default all 1.
        num_items_in_batch: n, where the batch is part of a larger one, as the Trainer gives it. By default the
            samples here that count.

    Returns:
        The loss, a scalar, in float32 or better.
    """
    counted = labels != IGNORED
    losses = cross_entropy(_at_least_float32(logits), labels, reduction="none", ignore_index=IGNORED)
    if weights is not None:
        losses = losses * weights.to(losses)[labels.where(counted, 0)]
    if num_items_in_batch is None:
        num_items_in_batch = counted.sum().clamp(min=1)
    elif torch.is_tensor(num_items_in_batch):
        num_items_in_batch = num_items_in_batch.to(losses.device)
    return losses.sum() / num_items_in_batch


class LongTailLoss(nn.Module, ABC):
    """Cross entropy of logits that know how rare each class is.

    In evaluation mode it is plain cross entropy, what the model's own loss is.

    Args:
        counts: n_c, the training samples of each class, by label.

    Attributes:
        weights: Of each class, see [`weighted_cross_entropy`]; None until set, e.g. at the epoch from which the
            classes are re-weighted (DRW).

    Raises:
        ValueError: A class without samples; when called, other counts than classes.

    Example:
        ```py
        >>> loss = GCL(class_counts(train))
        >>> for epoch in range(70):
        ...     if epoch == 60:
        ...         loss.weights = effective_number_weights(class_counts(train), beta=0.9998)
        ...     for images, labels in loader:
        ...         loss(model(images), labels).backward()
        ```
    """

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        self.counts = _as_counts(counts)
        self.weights: torch.Tensor | None = None

    @abstractmethod
    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The logits that training sees, of samples with a label."""

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The loss, a scalar; the arguments are those of [`weighted_cross_entropy`]."""
        if logits.shape[-1] != len(self.counts):
            raise ValueError(
                f"The model has {logits.shape[-1]} classes, but the loss was given the counts of {len(self.counts)}; "
                "give one count for each class, by label."
            )
        logits = _at_least_float32(logits)
        if not self.training:
            return weighted_cross_entropy(logits, labels, None, num_items_in_batch)
        adjusted = self.adjust(logits, labels.where(labels != IGNORED, 0))
        return weighted_cross_entropy(adjusted, labels, self.weights, num_items_in_batch)


class CrossEntropy(LongTailLoss):
    """The logits as they are: what the others are compared with, and DRW's partner.

    Args:
        counts: The training samples of each class, by label.
    """

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits


class LDAM(LongTailLoss):
    """Label-distribution-aware margins: the true class has to win by a margin, the rarer the wider.

    `z_y - s·Δ_y`, `Δ_c ∝ n_c^(-1/4)`, the largest Δ being `max_margin`; for logits z = s·cosine.

    Args:
        counts: n_c, the training samples of each class, by label.
        max_margin: Of the rarest class, as a cosine (paper: 0.5).
        scale: s, the model's (paper: 30).

    Reference:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        https://arxiv.org/abs/1906.07413
    """

    def __init__(self, counts: Sequence[int], max_margin: float = 0.5, scale: float = 30.0) -> None:
        super().__init__(counts)
        margins = self.counts**-0.25
        self.margins = margins * (max_margin / margins.max())
        self.scale = scale

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        true = one_hot(labels, len(self.counts)).to(logits)
        return logits - self.scale * self.margins.to(logits) * true


class GCL(LongTailLoss):
    """Gaussian clouded logits: noise lowers the logits of rare classes, a margin that of the true class.

    `z_c - s·|ξ|·(log n_max - log n_c)/(log n_max - log n_min) - s·m·[c = y]`, for logits z = s·cosine; ξ is normal
    with a standard deviation of 1/3, clipped to [-1, 1], drawn for each sample and class. Equal counts have no noise.

    The noise is of torch's generator on the logits' device, so gradient evaluations that restore it, as those of one
    step do, see the same noise.

    Args:
        counts: n_c, the training samples of each class, by label.
        margin: m, as a cosine (RSAM-PT: 0.1; GCL's own code: 0.5 by default).
        scale: s, the model's (RSAM-PT: 25).

    Reference:
        Li et al., "Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment", CVPR 2022,
        https://arxiv.org/abs/2305.11733
    """

    def __init__(self, counts: Sequence[int], margin: float = 0.1, scale: float = 25.0) -> None:
        super().__init__(counts)
        rarity = self.counts.max().log() - self.counts.log()
        self.cloud_sizes = rarity / rarity.max().clamp(min=torch.finfo(rarity.dtype).tiny)
        self.margin = margin
        self.scale = scale

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        xi = (torch.randn_like(logits) / 3).clamp(-1, 1)
        true = one_hot(labels, len(self.counts)).to(logits)
        return logits - self.scale * (xi.abs() * self.cloud_sizes.to(logits) + self.margin * true)


class LogitAdjustment(LongTailLoss):
    """Logit adjustment: what the classes' frequencies explain the logits need not.

    `z_c + τ·log π_c`, `π_c = n_c / Σ n`.

    Args:
        counts: n_c, the training samples of each class, by label.
        tau: τ; 1 is what minimises the balanced error (paper: 1).

    Reference:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314
    """

    def __init__(self, counts: Sequence[int], tau: float = 1.0) -> None:
        super().__init__(counts)
        self.offsets = tau * (self.counts / self.counts.sum()).log()

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits + self.offsets.to(logits)


class BalancedSoftmax(LogitAdjustment):
    """Balanced softmax: `n_c·exp(z_c) / Σ n_k·exp(z_k)`, which is logit adjustment with τ = 1.

    Args:
        counts: n_c, the training samples of each class, by label.

    Reference:
        Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020,
        https://arxiv.org/abs/2007.10740
    """

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__(counts, tau=1.0)


LOSSES: dict[str, type[LongTailLoss]] = {
    "cross_entropy": CrossEntropy,
    "ldam": LDAM,
    "gcl": GCL,
    "logit_adjustment": LogitAdjustment,
    "balanced_softmax": BalancedSoftmax,
}


def names() -> list[str]:
    """The names of all losses, sorted."""
    return sorted(LOSSES)


def create(name: str, counts: Sequence[int], **hyperparameters: float) -> LongTailLoss:
    """Make a loss by name.

    Args:
        name: One of `names()`, e.g. `"gcl"`.
        counts: The training samples of each class, by label.
        **hyperparameters: Its hyperparameters; those not given take the values of its paper.

    Raises:
        ValueError: An unknown name or hyperparameter (the nearest is named), a value that is no number, or a class
            without samples.

    Example:
        ```py
        >>> loss = create("ldam", class_counts(train), scale=25)
        ```
    """
    if name not in LOSSES:
        raise ValueError(f"There is no loss {name!r}{nearest(name, LOSSES)} Known are: {', '.join(names())}.")
    defaults = {
        of.name: of.default for of in inspect.signature(LOSSES[name]).parameters.values() if of.name != "counts"
    }
    for given, value in hyperparameters.items():
        if given not in defaults:
            known = ", ".join(f"{key}={value}" for key, value in defaults.items()) or "none"
            raise ValueError(f"{name} has no hyperparameter {given!r}{nearest(given, defaults)} It takes: {known}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: {given} must be a finite number, got {value!r}.")
    return LOSSES[name](counts, **hyperparameters)


def _as_counts(counts: Sequence[int]) -> torch.Tensor:
    counts = torch.as_tensor(counts, dtype=torch.float64)
    if empty := (counts < 1).nonzero().flatten().tolist():
        raise ValueError(f"Classes {empty} have no training samples; every class needs at least one.")
    return counts


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
