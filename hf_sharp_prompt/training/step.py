"""The micro-batches of one optimizer step, as its gradient evaluations see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from ..objectives import ConstrainingObjective
from ..objectives.labels import ignore
from ..sharpness.rule import SampleMask


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch.

    Args:
        inputs: The model's inputs by name.
        frozen_image_features: What the frozen image tower makes of the images, where vision tokens train and an
            objective asks for it; batch × width.
    """

    inputs: dict[str, Any]
    frozen_image_features: torch.Tensor | None = None

    def keep(self, sample_mask: SampleMask, whole: bool) -> MicroBatch:
        """The micro-batch with the labels ignored of the samples that do not count.

        Args:
            sample_mask: From labels to whether their samples count.
            whole: True if samples influence each other's losses, so that all of them must be run. Otherwise only those
                that count are run, or one if none does.
        """
        labels = self.inputs["labels"]
        counts = sample_mask(labels)
        inputs = {**self.inputs, "labels": ignore(labels, ~counts)}
        if whole:
            return replace(self, inputs=inputs)
        rows = counts.nonzero()[:, 0] if counts.any() else counts.new_zeros(1, dtype=torch.long)
        return MicroBatch(
            {name: _select(value, rows, len(labels)) for name, value in inputs.items()},
            _select(self.frozen_image_features, rows, len(labels)),
        )


class Evaluated(NamedTuple):
    """What the Trainer's loss is computed of: a micro-batch, and the constraint whose term is asked for, if one is."""

    micro_batch: MicroBatch
    constraint: ConstrainingObjective | None


def _select(value: Any, rows: torch.Tensor, samples: int) -> Any:
    return value[rows] if torch.is_tensor(value) and value.shape[:1] == (samples,) else value
