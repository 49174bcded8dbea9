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
    """One micro-batch, as objectives see it.

    Args:
        model: The model, as it was called.
        inputs: What it was called with, by name.
        outputs: What it returned: the logits, or something with `logits`.
        labels: The labels, if there are any: class indices of samples, or of their objects or pixels, where those that
            are -100 do not count; or probabilities, samples × classes, where samples whose probabilities are all 0 do
            not count.
        index: The samples' positions in the data set, for objectives that remember samples.
        size: The number of labels that count in the step's whole batch, over all micro-batches and processes, divided
            by the number of processes. By default the step has only this micro-batch.
        frozen_image_features: The images' features from `model.encode_images`, if the loop has them. By default
            objectives that need them compute them.
        sample_weights: What each sample weighs, where a sharpness rule weighs the classes. By default all weigh 1.
    """

    model: nn.Module
    inputs: Mapping[str, Any]
    outputs: Any
    labels: torch.Tensor | None = None
    index: torch.Tensor | None = None
    size: torch.Tensor | float | None = None
    frozen_image_features: torch.Tensor | None = None
    sample_weights: torch.Tensor | None = None

    @property
    def logits(self) -> torch.Tensor:
        """The model's logits, samples × classes."""
        return logits_of(self.outputs)

    @cached_property
    def counted(self) -> torch.Tensor:
        """For each sample, object or pixel whether it counts."""
        if self.labels is None:
            return torch.ones(len(self.logits), dtype=torch.bool, device=self.logits.device)
        return counted(self.labels)

    @cached_property
    def share(self) -> torch.Tensor:
        """What the labels that count here weigh, as a share of those in the whole batch."""
        return self._weight / self._whole

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return this micro-batch's part of a mean over the whole batch. The parts of all micro-batches add up to it.

        Args:
            values: A value for each sample; or a scalar, for what depends on the model alone.
        """
        if not values.dim():
            return values * self._weight / self._whole
        counted = values[self.counted]
        if self.sample_weights is not None:
            counted = counted * self.sample_weights[self.counted]
        return counted.sum() / self._whole

    @property
    def _weight(self) -> torch.Tensor:
        return self.counted.sum() if self.sample_weights is None else self.sample_weights[self.counted].sum()

    @property
    def _whole(self) -> torch.Tensor | float:
        return self.counted.sum().clamp(min=1) if self.size is None else self.size


def logits_of(outputs: Any) -> torch.Tensor:
    """Return the logits that a model's outputs hold.

    Raises:
        ValueError: They hold none.
    """
    if isinstance(outputs, torch.Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if logits is None:
        raise ValueError(f"The objective needs logits, and the model returned a {type(outputs).__name__} without any.")
    return logits
