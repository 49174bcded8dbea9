"""Sharpness-aware prompt learning for CLIP and ViT in the Hugging Face ecosystem.

Importing the package makes PEFT know its methods, so that `get_peft_model` and `PeftModel.from_pretrained` take them.
"""

from . import objectives, sharpness
from .image_encoder import ImageEncoder
from .trainer import SharpPromptTrainer
from .training_args import SharpPromptTrainingArguments
from .tuners import CLIPPromptConfig, ViTPromptConfig


__all__ = [
    "CLIPPromptConfig",
    "ImageEncoder",
    "SharpPromptTrainer",
    "SharpPromptTrainingArguments",
    "ViTPromptConfig",
    "objectives",
    "sharpness",
]
