"""Sharpness-aware prompt learning for CLIP and ViT in the Hugging Face ecosystem.

Importing the package makes PEFT know its methods, so that `get_peft_model` and `PeftModel.from_pretrained` take them.
"""

import sys
from pathlib import Path


__version__ = "0.1.0"


def _answers_at_once() -> bool:
    """True in `sharp-prompt --help` and `sharp-prompt recipes`, which save the seconds of torch's import."""
    program, *words = sys.argv or [""]
    is_module = program == "-m" and sys.orig_argv[-len(sys.argv)] == __name__  # `python -m hf_sharp_prompt`
    return (is_module or Path(program).stem == "sharp-prompt") and words[:1] in ([], ["-h"], ["--help"], ["recipes"])


if not _answers_at_once():
    from . import data, metrics, objectives, sharpness
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
    "__version__",
    "data",
    "metrics",
    "objectives",
    "sharpness",
]
