"""Sharpness-aware prompt learning for CLIP and ViT in the Hugging Face ecosystem.

Importing the package makes PEFT know its methods, so that `get_peft_model` and `PeftModel.from_pretrained` take them.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .version import __version__


def _is_command_line() -> bool:
    """True in `sharp-prompt …` and `python -m hf_sharp_prompt …`.

    There, a command imports what it needs, when it has said that it is starting: torch's import takes seconds.
    """
    program, *_ = sys.argv or [""]
    is_module = program == "-m" and sys.orig_argv[-len(sys.argv)] == __name__  # `python -m hf_sharp_prompt`
    return is_module or Path(program).stem == "sharp-prompt"


if TYPE_CHECKING or not _is_command_line():
    from . import data, metrics, objectives, sharpness
    from .training.arguments import SharpPromptTrainingArguments
    from .training.trainer import SharpPromptTrainer
    from .tuners import CLIPPromptConfig, ViTPromptConfig
    from .tuners.image_encoder import ImageEncoder
else:
    _HOMES = {
        "SharpPromptTrainingArguments": "training.arguments",
        "SharpPromptTrainer": "training.trainer",
        "CLIPPromptConfig": "tuners",
        "ViTPromptConfig": "tuners",
        "ImageEncoder": "tuners.image_encoder",
    }

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name in _HOMES:
            return getattr(import_module(f".{_HOMES[name]}", __name__), name)
        if name in ("data", "metrics", "objectives", "sharpness"):
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CLIPPromptConfig",
    "ImageEncoder",
    "SharpPromptTrainer",
    "SharpPromptTrainingArguments",
    "ViTPromptConfig",
    "__version__",
    "data",
    "metrics",
    "objectives",
    "sharpness",
]
