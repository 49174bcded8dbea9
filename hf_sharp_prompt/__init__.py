"""Sharpness-aware prompt learning for CLIP and ViT in the Hugging Face ecosystem.

Importing the package makes PEFT know its methods, so that `get_peft_model` and `PeftModel.from_pretrained` take them.
"""

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
