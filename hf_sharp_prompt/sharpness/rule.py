from __future__ import annotations

import dataclasses
import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

import torch


Among = Callable[[torch.Tensor], torch.Tensor]


class Gradient(Protocol):
    """How a rule asks for gradients of the step's loss L, as flat vectors over all trainable parameters."""

    weights: torch.Tensor
    """The parameters w."""
    learning_rate: float
    """The optimizer's."""
    epoch: int
    """The epoch the step is in, from 0."""
    stage: int
    """How many times the classes have been re-weighted."""

    def __call__(self, offset: torch.Tensor | None = None, among: Among | None = None) -> torch.Tensor:
        """`∇L(w + offset)`, or `∇L(w)` without an offset.

        `among` maps labels to whether they count: L is then the sum of those samples' losses over the size of the
        whole batch.
        """

    def draw_normal(self) -> torch.Tensor:
        """Standard normal noise, the same in every process, from a generator that is checkpointed."""

    def filter_norms(self) -> torch.Tensor:
        """For every parameter the norm of its filter: its row, or its whole tensor if that has one dimension."""


def hyperparameter(
    default: float, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf, help: str
) -> dataclasses.Field:
    """A rule's hyperparameter: its default, the closed range [`low`, `high`], or an open bound `above` below.

    Where the default is an `int`, only whole numbers are allowed.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "above": above, "help": help})


class SharpnessRule(ABC):
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
    """

    name: ClassVar[str]
    registry: ClassVar[dict[str, type[SharpnessRule]]] = {}

    def __init_subclass__(cls, name: str) -> None:
        cls.name = name
        SharpnessRule.registry[name] = cls

    def __post_init__(self) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.reported: dict[str, torch.Tensor] = {}
        for field in dataclasses.fields(self):
            value, bounds = getattr(self, field.name), field.metadata
            if not bounds:  # no number
                continue
            whole = isinstance(field.default, int)
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            is_number = is_number and (not whole or value == int(value))
            if not is_number or not bounds["low"] <= value <= bounds["high"] or not value > bounds["above"]:
                raise ValueError(f"{self.name}: {field.name} must be {_describe(bounds, whole)}, got {value!r}.")

    @abstractmethod
    def direction(self, gradient: Gradient) -> torch.Tensor:
        """The direction d, a flat vector: what the base optimizer receives as the gradient at the current point."""


def _describe(bounds: dict[str, float], whole: bool) -> str:
    limits = [f">= {bounds['low']:g}"] if bounds["low"] > -math.inf else []
    limits += [f"> {bounds['above']:g}"] if bounds["above"] > -math.inf else []
    limits += [f"<= {bounds['high']:g}"] if bounds["high"] < math.inf else []
    return " ".join(["a whole number" if whole else "a finite number", " and ".join(limits)]).strip()


def names() -> list[str]:
    """The names of all rules, sorted."""
    return sorted(SharpnessRule.registry)


def create(name: str, **hyperparameters: float) -> SharpnessRule:
    """Make a rule by name.

    Args:
        name: One of `names()`, e.g. `"sam"`.
        **hyperparameters: The rule's hyperparameters; those not given take the values of its paper.

    Raises:
        ValueError: An unknown name or hyperparameter (the nearest is named), or a value outside its range.

    Example:
        ```py
        >>> create("gcsam", rho=0.1)
        GCSAM(rho=0.1, low=0.5, high=0.8)
        ```
    """
    if name not in SharpnessRule.registry:
        raise ValueError(
            f"There is no sharpness rule {name!r}{_nearest(name, names())} Known are: {', '.join(names())}."
        )
    rule = SharpnessRule.registry[name]
    defaults = {field.name: field.default for field in dataclasses.fields(rule)}
    for given in hyperparameters:
        if given not in defaults:
            known = ", ".join(f"{key}={value}" for key, value in defaults.items()) or "none"
            raise ValueError(f"{name} has no hyperparameter {given!r}{_nearest(given, defaults)} It takes: {known}.")
    return rule(**hyperparameters)


def _nearest(given: str, known: list[str] | dict[str, float]) -> str:
    matches = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.4)
    return f"; did you mean {matches[0]!r}?" if matches else "."
