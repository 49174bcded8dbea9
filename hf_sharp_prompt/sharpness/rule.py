from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch

from ..hyperparameters import Registry, WithHyperparameters, hyperparameter


__all__ = ["Gradient", "SampleMask", "SharpnessRule", "create", "hyperparameter", "names"]

SampleMask = Callable[[torch.Tensor], torch.Tensor]
"""From the labels of samples to whether they count, a boolean tensor of the same length; or to what they weigh, of a
floating-point type."""


class Gradient(Protocol):
    """How a rule asks for gradients of the step's loss L, as flat vectors over all trainable parameters."""

    @property
    def weights(self) -> torch.Tensor:
        """The parameters w."""

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate."""

    @property
    def epoch(self) -> int:
        """The epoch the step is in, from 0."""

    @property
    def reweighting_stage(self) -> int:
        """How many times the classes have been re-weighted."""

    def __call__(self, offset: torch.Tensor | None = None, sample_mask: SampleMask | None = None) -> torch.Tensor:
        """`∇L(w + offset)`, or `∇L(w)` without an offset.

        With `sample_mask`, which maps labels to whether they count or what they weigh, L is the sum of those samples'
        losses, weighted, over the size of the whole batch.
        """

    def draw_normal(self) -> torch.Tensor:
        """Standard normal noise, the same in every process, from a generator that is checkpointed."""

    def filter_norms(self) -> torch.Tensor:
        """For every parameter the norm of its filter: its row, or its whole tensor if that has one dimension."""


class SharpnessRule(WithHyperparameters, ABC):
    """Which gradient is followed: from gradients at and near the current point to the direction of the step.

    A subclass is a dataclass whose fields are its hyperparameters, and gives its name in the class statement:

        ```py
        @dataclass
        class SAM(SharpnessRule, name="sam"):
            rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")

            def direction(self, gradient):
                return gradient(offset=self.rho * unit(gradient()))
        ```

    Whatever a rule remembers from step to step it keeps in `self.state`, tensors by name, replaced and never changed
    in place, so that a step that fails can be taken back. What it wants reported it puts in `self.reported`, scalar
    tensors by name.

    Attributes:
        tells_classes_apart: True if it asks for gradients with a `sample_mask`, for which each sample has one label.
        weighs_classes: True if such a `sample_mask` gives weights.
    """

    state: dict[str, torch.Tensor]
    registry: ClassVar[Registry[SharpnessRule]] = Registry("sharpness rule")
    tells_classes_apart: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False

    def __init_subclass__(cls, name: str) -> None:
        SharpnessRule.registry[name] = cls

    def __post_init__(self) -> None:
        super().__post_init__()
        self.state = {}
        self.reported: dict[str, torch.Tensor] = {}

    @abstractmethod
    def direction(self, gradient: Gradient) -> torch.Tensor:
        """Return the direction d, a flat vector, which the base optimizer receives as the gradient."""


def names() -> list[str]:
    """Return the names of all rules, sorted."""
    return SharpnessRule.registry.names()


def create(name: str, **hyperparameters: Any) -> SharpnessRule:
    """Make a rule by name.

    Args:
        name: One of `names()`, e.g. `"sam"`.
        **hyperparameters: The rule's hyperparameters; the others take the values of its paper.

    Raises:
        ValueError: An unknown name or hyperparameter (the nearest is named), or a value outside its range.

    Example:
        ```py
        >>> create("gcsam", rho=0.1)
        GCSAM(rho=0.1, low=0.5, high=0.8)
        ```
    """
    return SharpnessRule.registry.create(name, **hyperparameters)
