"""What the configs of prompts share: the design, and the file that they are read from."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from huggingface_hub import hf_hub_download
from peft import PeftConfig
from peft.utils import CONFIG_NAME

from ..hyperparameters import Registry
from .adapter_file import AdapterFile, find_file, find_tensors
from .config_fields import check_fields, shortened
from .prompt_design import CUSTOM, PromptDesign


Config = TypeVar("Config", bound="PromptConfig")

LONGEST_NAME_OF_DESIGN = 64

OLD_NAMES = {"made_for": "base_model_sizes"}
"""Fields of files that older versions saved, and what they are called now."""


HUB_ARGUMENTS = inspect.signature(hf_hub_download).parameters.keys()


class PromptConfig(PeftConfig):
    """A config that records its design and checks each field, and whose adapter's tensors are known before they exist.

    A subclass is a dataclass with a field `design`. Fields that the caller does not pass take the values of the design
    that it names; fields that are passed override them, except where they contradict the design.

    Attributes:
        designs: The known designs of this kind of config.
        designs_before_recorded: The designs that files did not record once, in the order in which they are recognised.
    """

    designs: ClassVar[Registry[PromptDesign[Any]]]
    designs_before_recorded: ClassVar[tuple[str, ...]]
    design: str

    # PEFT reads this of every config. It is found from the base model, so it is no field and is not saved.
    target_modules: str | None = None

    _file: AdapterFile | None = None  # the tensors beside the file that the config was read from
    _as_read: Mapping[str, Any] | None = None  # the fields as they were read
    _place: tuple[str, str | None, Mapping[str, Any]] | None = None  # where it was read, and how the Hub is asked
    _passed: frozenset[str] = frozenset()  # the names of the fields that the caller passed

    def __new__(cls: type[Config], *args: Any, **kwargs: Any) -> Config:
        config = super().__new__(cls)
        config._passed = frozenset([*(field.name for field in fields(cls)[: len(args)]), *kwargs])
        return config

    def __post_init__(self) -> None:
        super().__post_init__()
        design = self.get_design()
        for name, value in design.fields.items():
            if name not in self._passed:
                setattr(self, name, value)
        check_fields(self)
        if problem := design.problem(self):
            raise ValueError(
                f"The design {self.design!r} {problem}. Change that, or leave design out for prompts of your own."
            )

    def get_design(self) -> PromptDesign[Any]:
        """The design that `design` names.

        Raises:
            ValueError: There is no such design; the nearest is named.
        """
        if not _is_name(self.design):
            raise ValueError(
                f"design must be a name of at most {LONGEST_NAME_OF_DESIGN} characters, got {shortened(self.design)}."
            )
        return self.designs.find(self.design)()

    @classmethod
    def from_pretrained(
        cls: type[Config], pretrained_model_name_or_path: str | Path, subfolder: str | None = None, **kwargs: Any
    ) -> Config:
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
        config = cls._from_file(path, str(path) if is_local else f"{CONFIG_NAME} of {pretrained_model_name_or_path}")
        config._file = find_tensors(pretrained_model_name_or_path, subfolder, **hub)
        config._as_read = config._fields_of_tensors()
        config._place = (str(pretrained_model_name_or_path), subfolder, hub)
        return config

    def find_beside(self, name: str) -> Path | None:
        """Return the path of a file beside the one that the config was read from; None if there is none.

        Args:
            name: The file's name. From the Hub it is downloaded.
        """
        if self._place is None:
            return None
        model_id, subfolder, hub = self._place
        try:
            return find_file(name, model_id, subfolder, **hub)
        except (FileNotFoundError, ValueError):
            return None

    @classmethod
    def _from_file(cls: type[Config], path: Path, name: str) -> Config:
        """Read a config from a file of this or an older version.

        This is the one place that knows what older versions saved, and newer ones may save:

        - Fields had other names (`OLD_NAMES`).
        - Files did not record the design. There, and nowhere else, the design is the first of
          `designs_before_recorded` that the fields satisfy.
        - A newer version, or another package, may record a design that is not known here. An adapter's tensors depend
          on the other fields alone, so it is loaded, as a custom design and with a warning, instead of being refused.

        Args:
            path: The file.
            name: What errors call it.

        Raises:
            ValueError: The file is damaged, or a field is not what it should be.
        """
        values = read_object(path, name)
        for old, new in OLD_NAMES.items():
            if old in values:
                values.setdefault(new, values.pop(old))
        _check_known(cls, values, name)
        records_design = "design" in values
        if _is_name(values.get("design")) and values["design"] not in cls.designs:
            warnings.warn(
                f"{name}: the design {shortened(values['design'])} is not known here; known are "
                f"{', '.join(cls.designs.names())}. The adapter is loaded by its other fields, as a custom design. "
                "Upgrade hf-sharp-prompt, or import the package that registers the design.",
                stacklevel=3,
            )
            values["design"] = CUSTOM
        try:
            config = cls(**values)
        except ValueError as error:
            raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
        if not records_design:
            config.design = config._recognise_design()
        return config

    def _recognise_design(self) -> str:
        """The first design published before files recorded theirs that the fields satisfy; else custom."""
        for name in self.designs_before_recorded:
            if self.designs[name]().problem(self) is None:
                return name
        return CUSTOM

    def check_file(self, expected: Mapping[str, tuple[int, ...]], who: str) -> None:
        """Compare the tensors that the config was read with to those that it makes; call it before they are made.

        A config that was changed since, or was not read from a file, is of an adapter that is new.

        Args:
            expected: By name the shape of each tensor of the adapter.
            who: The model that they are for.

        Raises:
            ValueError: They differ.
        """
        if self._file is not None and self._as_read == self._fields_of_tensors():
            self._file.check(expected, who)

    def _fields_of_tensors(self) -> dict[str, Any]:
        """The fields that an adapter's tensors may depend on."""
        return {name: value for name, value in self.to_dict().items() if name not in ("inference_mode", "design")}


def _is_name(design: object) -> bool:
    return isinstance(design, str) and len(design) <= LONGEST_NAME_OF_DESIGN


def read_object(path: Path, name: str) -> dict[str, Any]:
    """Read the object that the file of any PEFT config holds.

    Args:
        path: The file.
        name: What errors call it.

    Raises:
        ValueError: The file is not the JSON of one object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is incomplete or not JSON: {type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} must hold one JSON object, the adapter's fields, got {shortened(values)}.")
    return values


def _check_known(cls: type[PromptConfig], values: Mapping[str, Any], name: str) -> None:
    """Check that a config knows all fields of its file.

    Raises:
        ValueError: It does not.
    """
    known = {field.name for field in fields(cls)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(
            f"{name}: {shortened(unknown[0])} is no field of {cls.__name__}. If the adapter was saved with newer "
            "versions of hf-sharp-prompt or peft, upgrade to these; else remove the field."
        )
