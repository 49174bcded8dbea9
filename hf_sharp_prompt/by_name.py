"""What is chosen by name and set by numbers: sharpness rules and objectives."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar


T = TypeVar("T")


def hyperparameter(
    default: float, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf, help: str
) -> dataclasses.Field:
    """A hyperparameter: its default, the closed range [`low`, `high`], or an open bound `above` below.

    Where the default is an `int`, only whole numbers are allowed.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "above": above, "help": help})


class WithHyperparameters:
    """A dataclass whose fields are hyperparameters, checked when it is made, and that remembers between steps.

    Raises:
        ValueError: A value outside its range.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.state: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value, bounds = getattr(self, field.name), field.metadata
            if not bounds:  # no number
                continue
            whole = isinstance(field.default, int)
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            is_number = is_number and (not whole or value == int(value))
            if not is_number or not bounds["low"] <= value <= bounds["high"] or not value > bounds["above"]:
                raise ValueError(f"{self.name}: {field.name} must be {_describe(bounds, whole)}, got {value!r}.")
            if whole:
                setattr(self, field.name, int(value))  # as JSON and searches for hyperparameters may have 3.0


def make(kind: type[T], hyperparameters: dict[str, Any]) -> T:
    """A member of a family from its class.

    Raises:
        ValueError: An unknown hyperparameter (the nearest is named), or a value outside its range.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for given in hyperparameters:
        if given not in defaults:
            known = ", ".join(f"{key}={value}" for key, value in defaults.items()) or "none"
            raise ValueError(
                f"{kind.name} has no hyperparameter {given!r}{nearest(given, defaults)} It takes: {known}."
            )
    return kind(**hyperparameters)


def nearest(given: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name."""
    matches = difflib.get_close_matches(given.lower(), list(known), n=1, cutoff=0.4)
    return f"; did you mean {matches[0]!r}?" if matches else "."


def _describe(bounds: dict[str, float], whole: bool) -> str:
    limits = [f">= {bounds['low']:g}"] if bounds["low"] > -math.inf else []
    limits += [f"> {bounds['above']:g}"] if bounds["above"] > -math.inf else []
    limits += [f"<= {bounds['high']:g}"] if bounds["high"] < math.inf else []
    return " ".join(["a whole number" if whole else "a finite number", " and ".join(limits)]).strip()
