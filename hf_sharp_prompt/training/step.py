"""One optimizer step: its micro-batches, and the backward passes that a sharpness rule asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from ..objectives import ConstrainingObjective
from ..objectives.labels import counted, ignore
from ..sharpness import Backward, Constraint
from ..sharpness.rule import SampleMask
from ..sharpness.step.gradients import BackwardPass


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch.

    Args:
        inputs: The model's inputs by name.
        frozen_image_features: What the frozen image tower makes of the images, where vision tokens train and an
            objective asks for it; batch × width.
        sample_weights: What each sample weighs in the loss; None if all weigh 1.
    """

    inputs: dict[str, Any]
    frozen_image_features: torch.Tensor | None = None
    sample_weights: torch.Tensor | None = None

    @property
    def compares_texts(self) -> bool:
        """True if the loss compares each image with the texts of all samples."""
        return {"pixel_values", "input_ids"} <= self.inputs.keys()

    def keep(self, sample_mask: SampleMask, whole: bool) -> MicroBatch:
        """Return the micro-batch with the labels ignored of the samples that do not count, or with weights.

        Args:
            sample_mask: From labels to whether their samples count, or what they weigh.
            whole: True if samples influence each other's losses, so that all of them must be run. Otherwise only those
                that count are run, or one if none does.
        """
        labels = self.inputs["labels"]
        counts = sample_mask(labels)
        if counts.is_floating_point():
            return replace(self, sample_weights=counts)
        inputs = {**self.inputs, "labels": ignore(labels, ~counts)}
        if whole:
            return replace(self, inputs=inputs)
        rows = counts.nonzero()[:, 0] if counts.any() else counts.new_zeros(1, dtype=torch.long)
        return MicroBatch(
            {name: _select(value, rows, len(labels)) for name, value in inputs.items()},
            _select(self.frozen_image_features, rows, len(labels)),
        )


class Evaluated(NamedTuple):
    """What the Trainer's loss is computed of.

    Args:
        micro_batch: The micro-batch.
        constraint: The objective whose term is evaluated instead of the loss; None for the loss.
    """

    micro_batch: MicroBatch
    constraint: ConstrainingObjective | None = None


@dataclass(frozen=True)
class Step:
    """The micro-batches of one optimizer step in this process.

    Args:
        micro_batches: The micro-batches.
        run: Runs the forward and the backward pass of what is evaluated, and returns its share of the loss.
        size: What this process's losses are divided by: the step's samples over the number of processes. None where
            the mean is taken of each micro-batch and over them.
        rule: The name of the sharpness rule, for errors.
        samples_interact: True if the model's samples influence each other's losses, as in batch normalisation.
    """

    micro_batches: Sequence[MicroBatch]
    run: Callable[[Evaluated], torch.Tensor]
    size: torch.Tensor | float | None
    rule: str
    samples_interact: bool

    def passes(self) -> list[BackwardPass]:
        """Return the backward pass of each micro-batch."""
        return [partial(self._run_backward_pass, [each], None) for each in self.micro_batches]

    def constraints(self, objectives: Sequence[ConstrainingObjective]) -> list[Constraint]:
        """Return the constraints of objectives, each with its backward pass over the whole step."""
        return [
            Constraint(each.name, partial(self._run_backward_pass, self.micro_batches, each), each.constrain)
            for each in objectives
        ]

    def shares(self) -> list[torch.Tensor | float] | None:
        """Return each micro-batch's share of the loss, by its samples that count; None if all shares are equal."""
        if self.size is None:
            return None
        return [float(counted(each.inputs["labels"]).sum()) / float(self.size) for each in self.micro_batches]

    def _run_backward_pass(
        self,
        micro_batches: Sequence[MicroBatch],
        constraint: ConstrainingObjective | None,
        sample_mask: SampleMask | None,
    ) -> Backward:
        """Evaluate micro-batches, of which only some samples count if there is a mask, and add up their losses."""
        if sample_mask is not None:
            if self.size is None:
                raise ValueError(
                    f"The rule {self.rule!r} tells classes apart, so the loss of a part of the batch is divided by "
                    "the size of the whole: the model's forward must take num_items_in_batch. Otherwise, give the "
                    "Trainer a compute_loss_func, which takes it."
                )
            micro_batches = [
                each.keep(sample_mask, whole=self.samples_interact or each.compares_texts) for each in micro_batches
            ]
        losses = [self.run(Evaluated(each, constraint)) for each in micro_batches]
        return Backward(torch.stack(losses).sum())


def _select(value: Any, rows: torch.Tensor, samples: int) -> Any:
    return value[rows] if torch.is_tensor(value) and value.shape[:1] == (samples,) else value
