from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ...hyperparameters import Registry, WithHyperparameters
from ..labels import IGNORED
from .weights import as_counts


@dataclass(eq=False)
class LongTailLoss(WithHyperparameters, nn.Module, ABC):
    """Cross entropy of logits that are adjusted by how rare each class is.

    In evaluation mode it is plain cross entropy, as the model's own loss is.

    A subclass is a dataclass with `eq=False`, as modules are compared by identity. Its fields are its hyperparameters,
    made with `hyperparameter`, and it gives its name in the class statement:

        ```py
        @dataclass(eq=False)
        class LogitAdjustment(LongTailLoss, name="logit_adjustment"):
            tau: float = hyperparameter(1.0, low=0, help="Weight of the log priors.")

            def adjust(self, logits, labels):
                return logits + self.tau * self.log_priors.to(logits)
        ```

    Args:
        counts: n_c, the number of training samples of each class, by label.

    Attributes:
        weights: The weight of each class, see [`weighted_cross_entropy`]; None until set, e.g. at the epoch from which
            the classes are re-weighted (DRW).

    Raises:
        ValueError: A hyperparameter is outside its range, or a class has no samples. When called: the number of counts
            is not the number of classes.

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

    registry: ClassVar[Registry[LongTailLoss]] = Registry("loss")
    counts: InitVar[Sequence[int]]

    def __init_subclass__(cls, name: str) -> None:
        LongTailLoss.registry[name] = cls

    def __post_init__(self, counts: Sequence[int]) -> None:
        nn.Module.__init__(self)
        super().__post_init__()
        self.class_counts = as_counts(counts)
        self.weights: torch.Tensor | None = None

    @property
    def log_priors(self) -> torch.Tensor:
        """`log π_c`, with `π_c = n_c / Σ n` the share of each class in the training samples."""
        return (self.class_counts / self.class_counts.sum()).log()

    @abstractmethod
    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the logits of which training takes the cross entropy.

        Args:
            logits: Samples × classes, in float32 or better.
            labels: The label of each sample.
        """

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        sample_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss, a scalar. The arguments are those of [`weighted_cross_entropy`]."""
        if logits.shape[-1] != len(self.class_counts):
            raise ValueError(
                f"The model has {logits.shape[-1]} classes, but the loss has the counts of "
                f"{len(self.class_counts)}; give one count for each class, by label."
            )
        logits = _at_least_float32(logits)
        if not self.training:
            return weighted_cross_entropy(logits, labels, None, num_items_in_batch, sample_weights)
        adjusted = self.adjust(logits, labels.where(labels != IGNORED, 0))
        return weighted_cross_entropy(adjusted, labels, self.weights, num_items_in_batch, sample_weights)


def names() -> list[str]:
    """Return the names of all losses, sorted."""
    return LongTailLoss.registry.names()


def create(name: str, counts: Sequence[int], **hyperparameters: Any) -> LongTailLoss:
    """Make a loss by name.

    Args:
        name: One of `names()`, e.g. `"gcl"`.
        counts: The number of training samples of each class, by label.
        **hyperparameters: Its hyperparameters; the others take the values of its paper.

    Raises:
        ValueError: The name or a hyperparameter is unknown (the nearest is named), a value is outside its range, or a
            class has no samples.

    Example:
        ```py
        >>> loss = create("ldam", class_counts(train), scale=25.0)
        ```
    """
    return LongTailLoss.registry.create(name, counts, **hyperparameters)


def weighted_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    sample_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the cross entropy with each sample weighted by its class: `Σ w_y·ℓ / n`.

    n counts samples, not weights, so the losses of micro-batches and of processes add up to the whole batch's. The
    losses of torch's own `cross_entropy(weight=…)` do not add up, since it divides by the weights of the samples at
    hand.

    Args:
        logits: Samples × classes.
        labels: The label of each sample; samples with -100 do not count.
        weights: The weight of each class; by default all weigh 1.
        num_items_in_batch: n, where the batch is part of a larger one, as the Trainer gives it. By default the number
            of samples here that count.
        sample_weights: What each sample weighs besides; by default 1.

    Returns:
        The loss, a scalar, in float32 or better.
    """
    counted = labels != IGNORED
    losses = cross_entropy(_at_least_float32(logits), labels, reduction="none", ignore_index=IGNORED)
    if weights is not None:
        losses = losses * weights.to(losses)[labels.where(counted, 0)]
    if sample_weights is not None:
        losses = losses * sample_weights.to(losses)
    if num_items_in_batch is None:
        num_items_in_batch = counted.sum().clamp(min=1)
    elif torch.is_tensor(num_items_in_batch):
        num_items_in_batch = num_items_in_batch.to(losses.device)
    return losses.sum() / num_items_in_batch


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
