from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..labels import IGNORED
from .weights import as_counts


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
        self.counts = as_counts(counts)
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


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
