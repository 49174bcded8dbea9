"""Is each field of a config what it should be? Types, ranges and choices, declared with the field."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any


def config_field(
    default: Any,
    *,
    help: str,
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Sequence[str] = (),
    none: str = "",
) -> Any:
    """Declare a field of a config's dataclass, with what its values may be.

    Args:
        default: Its default.
        help: What it means, in one sentence.
        low: The least number.
        above, below: Open bounds of a number.
        choices: The allowed words.
        none: What None stands for, e.g. "for every layer".

    Returns:
        A dataclass field; typed as `Any` so that `depth: int = config_field(1, help=…)` type-checks.
    """
    checks = {"low": low, "above": above, "below": below, "choices": tuple(choices), "none": none}
    return dataclasses.field(default=default, metadata={"help": help, **checks})


def check_fields(config: Any) -> None:
    """Check every field's type, range and choice. `peft_type` is PEFT's to check.

    Args:
        config: An instance of a dataclass.

    Raises:
        ValueError: A field holds something else; the message names it.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if field.name == "peft_type" or (_is_of(value, hint) and _is_allowed(value, field.metadata)):
            continue
        raise ValueError(f"{field.name} must be {_in_words(hint, field.metadata)}, got {shortened(value)}.")


def shortened(value: object) -> str:
    """Return a value as Python writes it, without control characters and at most 60 characters long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_allowed(value: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether a value of the right type is in the range and among the choices that its field declares."""
    if value is None or "choices" not in metadata:
        return True
    if metadata["choices"]:
        return value in metadata["choices"]
    is_number = isinstance(value, int | float)
    return not is_number or (metadata["low"] <= value < metadata["below"] and value > metadata["above"])


def _is_of(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, each) for each in arguments)
    if origin is list:
        return isinstance(value, list | tuple) and all(_is_of(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _is_of(key, arguments[0]) and _is_of(each, arguments[1]) for key, each in value.items()
        )
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is int:
        return type(value) is int
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in list(hint)
    return isinstance(value, hint)


def _in_words(hint: Any, metadata: Mapping[str, Any]) -> str:
    """Say what the values of a field may be."""
    range_or_choice = _range_or_choice_in_words(metadata) if "choices" in metadata else None
    if range_or_choice is None:
        return _type_in_words(hint)
    none = f" or None {metadata['none']}".rstrip() if type(None) in typing.get_args(hint) else ""
    return range_or_choice + none


def _range_or_choice_in_words(metadata: Mapping[str, Any]) -> str | None:
    low, above, below = metadata["low"], metadata["above"], metadata["below"]
    if metadata["choices"]:
        return f"one of {', '.join(metadata['choices'])}"
    if below < math.inf:
        return f"at least {low:g} and below {below:g}"
    if above == 0:
        return "positive"
    if low > -math.inf:
        return f"a {'positive' if low == 1 else 'non-negative'} integer"
    return None


def _type_in_words(hint: Any) -> str:
    names = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false", type(None): "None"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_in_words(each) for each in arguments))
    if origin is list:
        return f"a list, each item {_type_in_words(arguments[0])}"
    if origin is dict or hint is dict:
        return "a dictionary" + (f", each value {_type_in_words(arguments[1])}" if arguments else "")
    return names.get(hint, "anything" if hint is Any else f"a {hint.__name__}")
