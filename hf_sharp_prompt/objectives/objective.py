from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn

from ..hyperparameters import Registry, WithHyperparameters
from .batch import Batch


class Objective(WithHyperparameters, ABC):
    """What is minimised besides the model's loss: a term that is added to it.

    A subclass is a dataclass whose fields are its hyperparameters, made with `hyperparameter`, and gives its name in
    the class statement. Whatever it remembers from step to step it keeps in `self.state`, tensors by name, the same
    in every process, and changes in `end_step` and `end_epoch` alone, so that a step that fails changes nothing.

    Attributes:
        epoch: The epoch the step is in, from 0.
        needs_index: Whether it must know which samples of the data set a batch has.
        needs_frozen_images: Whether it looks at what the base model makes of the images without prompts.
    """

    registry: ClassVar[Registry[Objective]] = Registry("objective")
    needs_index: ClassVar[bool] = False
    needs_frozen_images: ClassVar[bool] = False
    state: dict[str, torch.Tensor]
    epoch: int = 0

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is not None:  # else it is the base of others
            Objective.registry[name] = cls

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        """Before a run's first step.

        Args:
            model: The model, as it will be trained.
            tokenizer: The base model's tokenizer, or the processor that holds it. By default it is loaded from where
                the base model was.

        Raises:
            ValueError: The objective has no meaning for this model.
        """

    def begin_step(self, model: nn.Module) -> None:
        """Before a step's first term, at the parameters where the step begins."""

    @abstractmethod
    def term(self, batch: Batch) -> torch.Tensor:
        """What a micro-batch adds to the loss, a scalar; the terms of a step's micro-batches and the mean over its
        processes make up the whole batch's.
        """

    def end_step(self, model: nn.Module, accelerator: Accelerator | None = None) -> None:
        """After the optimizer has taken the step; not called for one that failed or was skipped."""

    def end_epoch(self, model: nn.Module) -> None:
        """After an epoch's last step."""

    def end_run(self, model: nn.Module) -> None:
        """After a run's last step, and before the model is evaluated and saved for the last time."""


class ConstrainingObjective(Objective):
    """An objective whose term is not added to the loss: its gradient constrains the direction that is followed."""

    @abstractmethod
    def constrain(self, direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The direction to follow, from a rule's and the gradient of the term at the un-perturbed parameters."""


def names() -> list[str]:
    """The names of all objectives, sorted."""
    return Objective.registry.names()


def create(name: str, **hyperparameters: Any) -> Objective:
    """Make an objective by name.

    Args:
        name: One of `names()`, e.g. `"saf"`.
        **hyperparameters: Its hyperparameters; those not given take the values of its paper.

    Raises:
        ValueError: An unknown name or hyperparameter (the nearest is named), or a value outside its range.

    Example:
        ```py
        >>> create("saf", start=10)
        SAF(lmbda=0.3, temperature=5.0, epochs_ago=3, start=10)
        ```
    """
    return Objective.registry.create(name, **hyperparameters)
