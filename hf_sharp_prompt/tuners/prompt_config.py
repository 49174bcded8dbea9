"""What the configs of prompts share: they are read from a file, and compared with the tensors beside it."""

from __future__ import annotations

import enum
import inspect
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from peft import PeftConfig
from peft.utils import CONFIG_NAME

from .adapter_file import AdapterFile, find_file, find_tensors


HUB_ARGUMENTS = inspect.signature(hf_hub_download).parameters.keys()


class PromptConfig(PeftConfig):
    """A config whose file is checked field by field, and whose adapter's tensors are known before they are made."""

    # What PEFT asks of every config; found from the base model, so neither the user's business nor saved.
    target_modules: str | None = None

    _file: AdapterFile | None = None  # the tensors beside the file that the config was read from
    _as_read: Mapping[str, Any] | None = None  # the fields then

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, subfolder: str | None = None, **kwargs: Any
    ) -> PromptConfig:
        """Read a config, from a directory or the Hub, and the names and shapes of the tensors beside it.

        Args:
            pretrained_model_name_or_path: A directory, or a repository of the Hub.
            subfolder: Its folder there.
            **kwargs: As for `hf_hub_download`: `token`, `revision`, `cache_dir` and others.

        Raises:
            FileNotFoundError: There is no config.
            ValueError: The config's file is damaged or a field is not what it should be, which is named; or the
                tensors beside it are damaged, not finite, or pickled; or the Hub fails, with what it answered.
        """
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS & kwargs.keys() if kwargs[name] is not None}
        path = find_file(CONFIG_NAME, pretrained_model_name_or_path, subfolder, **hub)
        is_local = Path(pretrained_model_name_or_path).exists()
        name = str(path) if is_local else f"{CONFIG_NAME} of {pretrained_model_name_or_path}"
        values = read_fields(cls, path, name)
        try:
            config = cls(**values)
        except ValueError as error:
            raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
        config._file = find_tensors(pretrained_model_name_or_path, subfolder, **hub)
        config._as_read = config._design()
        return config

    def check_file(self, expected: Mapping[str, tuple[int, ...]], who: str) -> None:
        """Compare the tensors that the config was read with to those that it makes; call it before they are made.

        A config that was changed since, or was not read from a file, is of an adapter that is new.

        Args:
            expected: By name the shape of each tensor of the adapter.
            who: The model that they are for.

        Raises:
            ValueError: They differ.
        """
        if self._file is not None and self._as_read == self._design():
            self._file.check(expected, who)

    def _design(self) -> dict[str, Any]:
        """The fields that an adapter's tensors depend on."""
        return {name: value for name, value in self.to_dict().items() if name != "inference_mode"}

    def _check_types(self) -> None:
        """Check every field's type.

        Raises:
            ValueError: A field holds something else; the message names it.
        """
        hints = typing.get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "peft_type" and not _is_of(value, hints[field.name]):
                raise ValueError(f"{field.name} must be {_in_words(hints[field.name])}, got {_shortened(value)}.")


def read_fields(cls: type[PeftConfig], path: Path, name: str) -> dict[str, Any]:
    """The fields that a config's file holds.

    Args:
        cls: The config.
        path: Its file.
        name: What errors call the file.

    Raises:
        ValueError: The file is not the JSON of one object, or has a field that the config does not know.
    """
    values = read_object(path, name)
    known = {field.name for field in fields(cls)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(
            f"{name}: {_shortened(unknown[0])} is no field of {cls.__name__}. If the adapter was saved with newer "
            "versions of hf-sharp-prompt or peft, upgrade to these; else remove the field."
        )
    return values


def read_object(path: Path, name: str) -> dict[str, Any]:
    """What a config's file holds, whosever it is.

    Raises:
        ValueError: The file is not the JSON of one object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is incomplete or not JSON: {type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} must hold one JSON object, the adapter's fields, got {_shortened(values)}.")
    return values


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


def _in_words(hint: Any) -> str:
    names = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false", type(None): "None"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_in_words(each) for each in arguments))
    if origin is list:
        return f"a list, each item {_in_words(arguments[0])}"
    if origin is dict or hint is dict:
        return "a dictionary" + (f", each value {_in_words(arguments[1])}" if arguments else "")
    return names.get(hint, "anything" if hint is Any else f"a {hint.__name__}")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
