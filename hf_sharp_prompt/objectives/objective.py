from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from accelerate import Accelerator
from torch import nn

from ..by_name import WithHyperparameters, make, nearest
from .batch import Batch


class Objective(WithHyperparameters, ABC):
    """What is minimised besides the model's loss: a term that is added to it.

    A subclass is a dataclass whose fields are its hyperparameters, made with `hyperparameter`, and gives its name in
    the class statement. Whatever it remembers from step to step it keeps in `self.state`, tensors by name, the same
    in every process, and changes in `end_step` alone, so that a step that fails changes nothing.

    Attributes:
        epoch: The epoch the step is in, from 0.
        needs_index: Whether it must know which samples of the data set a batch has.
    """

    registry: ClassVar[dict[str, type[Objective]]] = {}
    needs_index: ClassVar[bool] = False
    state: dict[str, torch.Tensor]
    epoch: int = 0

    def __init_subclass__(cls, name: str) -> None:
        cls.name = name
        Objective.registry[name] = cls

    def begin_step(self, model: nn.Module) -> None:
        """Before a step's first term, at the parameters where the step begins."""

    @abstractmethod
    def term(self, batch: Batch) -> torch.Tensor:
        """What a micro-batch adds to the loss, a scalar; the terms of a step's micro-batches and the mean over its
        processes make up the whole batch's.
        """

    def end_step(self, model: nn.Module, accelerator: Accelerator | None = None) -> None:
        """After the optimizer has taken the step; not called for one that failed or was skipped."""


def names() -> list[str]:
    """The names of all objectives, sorted."""
    return sorted(Objective.registry)


def create(name: str, **hyperparameters: float) -> Objective:
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
    if name not in Objective.registry:
        raise ValueError(f"There is no objective {name!r}{nearest(name, names())} Known are: {', '.join(names())}.")
    return make(Objective.registry[name], hyperparameters)
