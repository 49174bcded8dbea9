"""The base model of an adapter, as its card names and loads it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftModel

from .. import demo
from ..tuners.prompt_config import PromptConfig
from .escaping import escape, in_code


DEMO = {str(path): name for name, path in vars(demo).items() if name.endswith("_PATH") and isinstance(path, Path)}
"""By directory the constants of the demo's models."""


@dataclass
class BaseModel:
    """A base model.

    Args:
        place: Its id on the Hub or its directory; empty if it was not loaded by name.
        kind: What it is called if it has no name.
        revision: Its revision, if it is known.
        pinned: The revision that the adapter asks for.

    Attributes:
        demo_constant: The constant of `hf_sharp_prompt.demo` that is its directory, if it is one of the demo's.
        on_hub: Its id on the Hub; None if it is not there.
        name: What it is called in a sentence.
        shown: The name in Markdown, linked if it is on the Hub.
        code: A Python expression for `from_pretrained`.
        arguments: The arguments of `from_pretrained` in code.
        comment: What the code says beside it.
    """

    place: str
    kind: str
    revision: str | None = None
    pinned: str | None = None
    demo_constant: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.demo_constant = DEMO.get(self.place)
        is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", self.place) and not Path(self.place).exists()
        self.on_hub = self.place if is_id else None
        name = Path(self.place).name or self.kind
        self.name = f"the demo's {self.kind}" if self.demo_constant else self.on_hub or name
        self.shown = f"[{self.name}](https://huggingface.co/{self.name})" if self.on_hub else escape(self.name)
        self.code = self.demo_constant or f'"{in_code(self.on_hub or name)}"'
        self.arguments = self.code + (f', revision="{in_code(self.pinned)}"' if self.pinned else "")
        self.comment = "" if self.on_hub or self.demo_constant else "  # the local directory of the base model"


def base_model_of(model: PeftModel, config: PromptConfig) -> BaseModel:
    """Return the base model of an adapter: as the adapter's config names it, or as it was loaded.

    The config of an adapter from the Hub holds of a directory only the last part, as does the card.
    """
    base: Any = model.get_base_model()
    named, loaded = str(config.base_model_name_or_path or ""), str(getattr(base, "name_or_path", "") or "")
    place = loaded if not named or (Path(loaded).name == named and "/" not in named) else named
    revision = getattr(getattr(base, "config", None), "_commit_hash", None)
    kind = re.match(r"[A-Z]\w*?(?=Model|For[A-Z]|$)", type(base).__name__)
    return BaseModel(place, kind[0] if kind else type(base).__name__, revision, config.revision)
