"""Families of what is chosen by name: sharpness rules, objectives, losses and designs of prompts."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, Generic, TypeVar


def hyperparameter(
    default: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    help: str,
    formerly: str | None = None,
) -> Any:
    """Declare a hyperparameter of a dataclass.

    Args:
        default: Its default. If it is an `int`, only whole numbers are allowed.
        low, high: The closed range of its values.
        above: An open bound below.
        help: What it means, in one sentence.
        formerly: A name that it had before, under which `Registry.create` still takes it.

    Returns:
        A dataclass field; typed as `Any` so that `rho: float = hyperparameter(0.05, help=…)` type-checks.
    """
    metadata = {"low": low, "high": high, "above": above, "help": help, "formerly": formerly}
    return dataclasses.field(default=default, metadata=metadata)


class Named:
    """What is chosen by name.

    Attributes:
        name: The name in its family.
    """

    name: ClassVar[str]


class WithHyperparameters(Named):
    """A dataclass whose fields are hyperparameters. They are checked when it is made.

    Raises:
        ValueError: A value is outside its range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            if field.metadata:  # Only `hyperparameter` sets metadata.
                setattr(self, field.name, self._checked(field, getattr(self, field.name)))

    def _checked(self, field: dataclasses.Field[Any], value: Any) -> Any:
        """Return the value, as an `int` where only whole numbers are allowed: JSON and searches may give 3.0."""
        bounds, whole = field.metadata, isinstance(field.default, int)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        is_number = is_number and (not whole or value == int(value))
        if not is_number or not bounds["low"] <= value <= bounds["high"] or not value > bounds["above"]:
            raise ValueError(f"{self.name}: {field.name} must be {_describe(bounds, whole)}, got {value!r}.")
        return int(value) if whole else value


Member = TypeVar("Member", bound=Named)


class Registry(MutableMapping[str, type[Member]], Generic[Member]):
    """The members of a family, by name. A member becomes known by `registry[name] = kind`.

    Args:
        family: What a member is called in errors, e.g. "sharpness rule".
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._members: dict[str, type[Member]] = {}

    def __getitem__(self, name: str) -> type[Member]:
        return self._members[name]

    def __setitem__(self, name: str, kind: type[Member]) -> None:
        kind.name = name
        self._members[name] = kind

    def __delitem__(self, name: str) -> None:
        del self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def names(self) -> list[str]:
        """The names of all members, sorted."""
        return sorted(self._members)

    def find(self, name: str) -> type[Member]:
        """Return a member by name.

        Raises:
            ValueError: The name is unknown; the nearest is named.
        """
        if name not in self._members:
            known = ", ".join(self.names())
            raise ValueError(f"There is no {self.family} {name!r}{nearest(name, self._members)} Known are: {known}.")
        return self._members[name]

    def create(self, name: str, *arguments: Any, **hyperparameters: Any) -> Member:
        """Make a member by name.

        Args:
            name: One of `names()`.
            *arguments: What every member of the family takes besides hyperparameters.
            **hyperparameters: Its hyperparameters; the others take their defaults.

        Raises:
            ValueError: The name or a hyperparameter is unknown (the nearest is named), or a value is outside its
                range.
        """
        kind = self.find(name)
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # members are dataclasses
        for field in fields:
            if (formerly := field.metadata.get("formerly")) in hyperparameters:
                if field.name in hyperparameters:
                    raise ValueError(f"{name}: {formerly} is the former name of {field.name}; drop {formerly}.")
                hyperparameters[field.name] = hyperparameters.pop(formerly)
        defaults = {field.name: field.default for field in fields}
        for key in hyperparameters:
            if key not in defaults:
                known = ", ".join(f"{each}={value}" for each, value in defaults.items()) or "none"
                raise ValueError(f"{name} has no hyperparameter {key!r}{nearest(key, defaults)} It takes: {known}.")
        return kind(*arguments, **hyperparameters)


def nearest(name: str, known: Iterable[str], likeness: float = 0.4) -> str:
    """Return the end of a sentence about an unknown name: the nearest known name, if one is near.

    Args:
        name: The unknown name.
        known: The known names.
        likeness: How like it a known name must be, from 0 to 1 for the same: what `difflib` calls the ratio. By
            default the beginning of a name is enough, as one of the known names must be meant.
    """
    matches = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=likeness)
    return f"; did you mean {matches[0]!r}?" if matches else "."


def _describe(bounds: Mapping[str, float], whole: bool) -> str:
    limits = [f">= {bounds['low']:g}"] if bounds["low"] > -math.inf else []
    limits += [f"> {bounds['above']:g}"] if bounds["above"] > -math.inf else []
    limits += [f"<= {bounds['high']:g}"] if bounds["high"] < math.inf else []
    return " ".join(["a whole number" if whole else "a finite number", " and ".join(limits)]).strip()
