"""What a published design of prompts says of itself."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from peft import PeftConfig

from ..hyperparameters import Named


CUSTOM = "custom"
"""The design of a config whose fields are a combination of its author's own."""

Config = TypeVar("Config", bound=PeftConfig)


class Reference(NamedTuple):
    """A paper.

    Args:
        citation: Authors, title, where and when it was published.
        url: Where it can be read.
    """

    citation: str
    url: str


class PromptDesign(Named, Generic[Config]):
    """A published combination of a config's fields, chosen by name: `CLIPPromptConfig(design="maple")`.

    Attributes:
        title: The name as it is written in papers and on cards.
        reference: The paper that published it; None for one that claims none.
        fields: The published values of the config's fields, where they are not the config's defaults.
        fixed: The names of the fields whose published values make the design; all others can be changed.
    """

    title: ClassVar[str]
    reference: ClassVar[Reference | None] = None
    fields: ClassVar[Mapping[str, Any]] = {}
    fixed: ClassVar[Sequence[str]] = ()

    def problem(self, config: Config) -> str | None:
        """Say why a config is not of this design, as the rest of a sentence about the design; None if it is."""
        for name in self.fixed:
            published, value = self._published_value(config, name), getattr(config, name)
            if value != published:
                return f"has {name}={published!r}, but {name} is {value!r}"
        return None

    @abstractmethod
    def learned(self, config: Config) -> str:
        """Say what is learned, for the card, e.g. "4 context tokens"."""

    def _published_value(self, config: Config, name: str) -> Any:
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        return self.fields.get(name, defaults[name])
