"""The loss for long tails, and what each class weighs in it at which time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ..data import class_counts
from ..objectives.batch import logits_of
from ..objectives.labels import IGNORED
from ..objectives.long_tail import LongTailLoss, weighted_cross_entropy
from .arguments import SharpPromptTrainingArguments


def count_classes(args: SharpPromptTrainingArguments, train_dataset: Any) -> list[int] | None:
    """Return the training samples of each class, by label; None if no argument needs them.

    Raises:
        ValueError: They cannot be counted and `class_counts` is not set, or it is not that of the data.
    """
    if not args.needs_class_counts:
        return None
    try:
        counted = class_counts(train_dataset)
    except ValueError as error:
        if args.given_class_counts is not None:
            return list(args.given_class_counts)
        raise ValueError(f"{error} Or set class_counts in the training arguments.") from error
    if args.class_counts not in (None, counted):
        raise ValueError(
            f"class_counts is {_shortened(args.class_counts)}, but the train dataset has {_shortened(counted)}; leave "
            "class_counts out."
        )
    return counted


class ClassWeighting:
    """The loss that training minimises instead of the model's own, with the classes weighted as the arguments say.

    The Trainer's `compute_loss_func` returns it. Evaluation, and training before `begin_run`, take plain cross
    entropy.

    Args:
        args: The training arguments.
    """

    def __init__(self, args: SharpPromptTrainingArguments) -> None:
        self.args = args
        self.model: nn.Module | None = None

    def begin_run(self, model: nn.Module, counts: Sequence[int], accelerator: Accelerator) -> None:
        """Prepare for a run.

        Args:
            model: The model that trains.
            counts: The training samples of each class, by label.
            accelerator: The Trainer's `Accelerator`.
        """
        self.model, self.accelerator = model, accelerator
        self.loss: LongTailLoss = self.args.make_loss(counts)
        self.weights = self.args.class_weights(counts)

    def begin_step(
        self, labels: Sequence[torch.Tensor], samples: torch.Tensor | int | None, reweighting_stage: int
    ) -> None:
        """Set what each class weighs in this step: the samples of the whole batch weigh 1 on average.

        Args:
            labels: The labels of this process's samples, by micro-batch.
            samples: How many samples the whole batch has.
            reweighting_stage: How many times the classes have been re-weighted.
        """
        is_deferred = bool(self.args.reweighting_epochs)
        if self.weights is None or samples is None or (is_deferred and reweighting_stage == 0):
            self.loss.weights = None
            return
        every = torch.cat(list(labels))
        weights = self.weights.to(every.device)
        total = weights[every[every != IGNORED]].sum()
        if self.args.average_tokens_across_devices:
            total = self.accelerator.reduce(total, reduction="sum")
        self.loss.weights = weights * samples / total

    def __call__(
        self,
        outputs: Any,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        sample_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss of a micro-batch; arguments as for `compute_loss_func`, and what each sample weighs."""
        trains = self.model is not None and self.model.training
        loss = self.loss if trains else weighted_cross_entropy
        return loss(logits_of(outputs), labels, num_items_in_batch=num_items_in_batch, sample_weights=sample_weights)


def _shortened(counts: Sequence[int]) -> str:
    return f"[{', '.join(map(str, counts[:10]))}{', …' if len(counts) > 10 else ''}] ({len(counts)} classes)"
