from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from .labels import counted


@dataclass
class Batch:
    """What an objective sees of one micro-batch.

    Args:
        model: The model, as it was called.
        inputs: What it was called with, by name.
        outputs: What it returned: the logits, or something with `logits`.
        labels: The samples' labels, where there are any: class indices, of which -100 do not count, or probabilities,
            samples × classes, of which those that are all 0 do not.
        index: Which samples of the data set these are, for objectives that remember them.
        size: How many samples the step's whole batch has: all micro-batches' over all processes, divided by the
            number of processes. By default this micro-batch is all of it.
        frozen_image_features: What `model.encode_images` makes of the images, where a loop knows it already; by
            default objectives that need it compute it.
    """

    model: nn.Module
    inputs: Mapping[str, Any]
    outputs: Any
    labels: torch.Tensor | None = None
    index: torch.Tensor | None = None
    size: torch.Tensor | float | None = None
    frozen_image_features: torch.Tensor | None = None

    @property
    def logits(self) -> torch.Tensor:
        """The model's logits, samples × classes."""
        return logits_of(self.outputs)

    @cached_property
    def counted(self) -> torch.Tensor:
        """For each sample whether it counts."""
        if self.labels is None:
            return torch.ones(len(self.logits), dtype=torch.bool, device=self.logits.device)
        return counted(self.labels)

    @cached_property
    def share(self) -> torch.Tensor:
        """The samples that count here, of those in the whole batch."""
        return self.counted.sum() / self._whole

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """This micro-batch's part of a mean over the whole batch: the parts of micro-batches add up to it.

        Args:
            values: One for each sample; or a scalar, of what depends on the model alone.
        """
        total = values[self.counted].sum() if values.dim() else values * self.counted.sum()
        return total / self._whole

    @property
    def _whole(self) -> torch.Tensor | float:
        return self.counted.sum().clamp(min=1) if self.size is None else self.size


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits among what a model returned."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if logits is None:
        raise ValueError(f"The objective needs logits, and the model returned a {type(outputs).__name__} without any.")
    return logits
