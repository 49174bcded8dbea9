"""The loss for long tails, and what each class weighs in it at which time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..data import class_counts
from ..objectives.batch import logits_of
from ..objectives.labels import IGNORED
from ..objectives.long_tail import LongTailLoss, weighted_cross_entropy
from .arguments import SharpPromptTrainingArguments


def count_classes(args: SharpPromptTrainingArguments, train_dataset: Any) -> list[int] | None:
    """The training samples of each class, where an argument needs them.

    Raises:
        ValueError: They cannot be counted and are not given, or the given ones are not those of the data.
    """
    if not args.needs_class_counts:
        return None
    try:
        counted = class_counts(train_dataset)
    except ValueError as error:
        if args.class_counts is not None:
            return args.class_counts
        raise ValueError(f"{error} Or say class_counts in the training arguments.") from error
    if args.class_counts not in (None, counted):
        raise ValueError(
            f"class_counts is {_shortened(args.class_counts)}, but the train dataset has {_shortened(counted)}; leave "
            "class_counts out."
        )
    return counted


class ClassWeighting:
    """The loss that training minimises instead of the model's own, with the classes weighted as the arguments say.

    Args:
        args: The training arguments.
        counts: The training samples of each class, by label.
    """

    def __init__(self, args: SharpPromptTrainingArguments, counts: Sequence[int]) -> None:
        self.loss: LongTailLoss = args.make_loss(counts)
        self.weights = args.class_weights(counts)
        self.is_deferred = bool(args.reweighting_epochs)

    def begin_step(
        self,
        labels: torch.Tensor,
        samples: torch.Tensor | int,
        reweighting_stage: int,
        add_up: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        """Set what each class weighs in this step: the samples of the whole batch weigh 1 on average.

        Args:
            labels: The labels of this process's samples.
            samples: How many samples the whole batch has.
            reweighting_stage: How many times the classes have been re-weighted.
            add_up: Adds a tensor up over the processes that share the batch.
        """
        if self.weights is None or (self.is_deferred and reweighting_stage == 0):
            self.loss.weights = None
            return
        weights = self.weights.to(labels.device)
        self.loss.weights = weights * samples / add_up(weights[labels[labels != IGNORED]].sum())

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None, training: bool
    ) -> torch.Tensor:
        """The loss; in evaluation, where counts may be unknown, plain cross entropy."""
        loss = self.loss if training else weighted_cross_entropy
        return loss(logits_of(outputs), labels, num_items_in_batch=num_items_in_batch)


def _shortened(counts: Sequence[int]) -> str:
    return f"[{', '.join(map(str, counts[:10]))}{', …' if len(counts) > 10 else ''}] ({len(counts)} classes)"
