"""What the gradient evaluations of one step have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import nn

from .parameters import ParameterVector


@dataclass
class StepContext:
    """What the gradient evaluations of one step have in common.

    Args:
        parameters: The trainable parameters.
        model: The model, if the loop gave it; only the step's first evaluation changes its buffers.
        generator: Draws the rule's noise.
        accelerator: Reduces over processes and scales losses, if there is one.
        find_learning_rate: Returns the optimizer's learning rate.
        epoch: The epoch, from 0.
        reweighting_stage: How many times the classes have been re-weighted.
    """

    parameters: ParameterVector
    model: nn.Module | None
    generator: torch.Generator
    accelerator: Accelerator | None
    find_learning_rate: Callable[[], float]
    epoch: int
    reweighting_stage: int

    @property
    def processes(self) -> int:
        """The number of processes."""
        return 1 if self.accelerator is None else self.accelerator.num_processes

    @property
    def process_index(self) -> int:
        """The number of this process, from 0."""
        return 0 if self.accelerator is None else self.accelerator.process_index

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler, in half precision."""
        return None if self.accelerator is None else self.accelerator.scaler

    def reduce(self, flat: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the processes."""
        return flat if self.accelerator is None else self.accelerator.reduce(flat, reduction="mean")

    @cached_property
    def _seed_of_parts(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))

    def generator_of_part(self, part: int) -> torch.Generator:
        """Return the generator of one part's noise. Every process draws the same seed for the step."""
        return torch.Generator().manual_seed(self._seed_of_parts + part)
