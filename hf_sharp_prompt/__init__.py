"""Sharpness-aware prompt learning for CLIP and ViT in the Hugging Face ecosystem.

Importing the package makes PEFT know its methods, so that `get_peft_model` and `PeftModel.from_pretrained` take them.
"""

import sys
from pathlib import Path


def _answers_at_once() -> bool:
    """True in commands that do without torch, and save the seconds of its import."""
    program, *words = sys.argv or [""]
    is_module = program == "-m" and sys.orig_argv[-len(sys.argv)] == __name__  # `python -m hf_sharp_prompt`
    command = words[0] if words else "--help"
    is_quick = command in ("-h", "--help", "recipes", "summarize")
    return is_quick and (is_module or Path(program).stem == "sharp-prompt")


if not _answers_at_once():
    from . import objectives, sharpness
    from .training.arguments import SharpPromptTrainingArguments
    from .training.trainer import SharpPromptTrainer
    from .tuners import CLIPPromptConfig, ViTPromptConfig
    from .tuners.image_encoder import ImageEncoder


__all__ = [
    "CLIPPromptConfig",
    "ImageEncoder",
    "SharpPromptTrainer",
    "SharpPromptTrainingArguments",
    "ViTPromptConfig",
    "objectives",
    "sharpness",
]
