from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn

from ..hyperparameters import Registry, WithHyperparameters
from .batch import Batch


class Objective(WithHyperparameters, ABC):
    """A term that is minimised together with the model's loss.

    A subclass is a dataclass whose fields are its hyperparameters, made with `hyperparameter`, and gives its name in
    the class statement. What it remembers from step to step is in `self.state`, the same in every process. Only
    `end_step` and `end_epoch` change it, so that a step that fails changes nothing.

    Attributes:
        state: The tensors that it remembers, by name.
        epoch: The epoch of the current step, counted from 0.
        needs_index: True if it must know which samples of the data set a batch has.
        needs_frozen_images: True if it compares with the images' features without prompts.
        reads_image_logits: False if it needs no logits of images × classes, so that it also has a meaning where
            objects or pixels are compared with the classes.
        is_sharpness_aware: True if it leads to flat minima as sharpness rules do. The Trainer's argument `sharpness`
            then takes its name as well.
    """

    registry: ClassVar[Registry[Objective]] = Registry("objective")
    needs_index: ClassVar[bool] = False
    needs_frozen_images: ClassVar[bool] = False
    reads_image_logits: ClassVar[bool] = True
    is_sharpness_aware: ClassVar[bool] = False
    state: dict[str, torch.Tensor]
    epoch: int = 0

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is not None:  # Bases of several objectives have no name.
            Objective.registry[name] = cls

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state = {}

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        """Prepare for a run; called before its first step.

        Args:
            model: The model, as it will be trained.
            tokenizer: The base model's tokenizer, or the processor that holds it. By default the model loads the
                tokenizer of its checkpoint.

        Raises:
            ValueError: The objective cannot be used with this model.
        """

    def begin_step(self, model: nn.Module) -> None:
        """Prepare for a step; called before its first term, at the parameters where the step begins."""

    @abstractmethod
    def term(self, batch: Batch) -> torch.Tensor:
        """Return what a micro-batch adds to the loss.

        Returns:
            A scalar. The sum over a step's micro-batches, averaged over its processes, is the whole batch's term.
        """

    def end_step(self, model: nn.Module, accelerator: Accelerator | None = None) -> None:
        """Update the state after the optimizer has taken the step. Steps that fail or are skipped do not count."""

    def end_epoch(self, model: nn.Module) -> None:
        """Update the state after an epoch's last step."""

    def end_run(self, model: nn.Module) -> None:
        """Finish a run; called after its last step, before the last evaluation and save."""


class ConstrainingObjective(Objective):
    """An objective whose term is not added to the loss. Its gradient constrains the direction that is followed."""

    @abstractmethod
    def constrain(self, direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the direction to follow.

        Args:
            direction: The sharpness rule's direction, a flat vector.
            gradient: The gradient of the term at the un-perturbed parameters, a flat vector.
        """


def names() -> list[str]:
    """Return the names of all objectives, sorted."""
    return Objective.registry.names()


def sharpness_aware_names() -> list[str]:
    """Return the names of the objectives that lead to flat minima as sharpness rules do, sorted."""
    return [name for name in names() if Objective.registry[name].is_sharpness_aware]


def create(name: str, **hyperparameters: Any) -> Objective:
    """Make an objective by name.

    Args:
        name: One of `names()`, e.g. `"saf"`.
        **hyperparameters: Its hyperparameters; the others take the values of its paper.

    Raises:
        ValueError: An unknown name or hyperparameter (the nearest is named), or a value outside its range.

    Example:
        ```py
        >>> create("saf", start=10)
        SAF(weight=0.3, temperature=5.0, epochs_ago=3, start=10)
        ```
    """
    return Objective.registry.create(name, **hyperparameters)
