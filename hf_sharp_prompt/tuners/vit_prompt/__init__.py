from ...compat.peft import register_method
from ..registration import PromptPeftType
from .config import ViTPromptConfig
from .designs import ViTDesign
from .layer import CosineHead, ViTPrompt
from .model import ViTPromptModel
from .pooling import MODEL_POOLINGS, Pooling, register_vit


__all__ = [
    "MODEL_POOLINGS",
    "CosineHead",
    "Pooling",
    "ViTDesign",
    "ViTPrompt",
    "ViTPromptConfig",
    "ViTPromptModel",
    "register_vit",
]

register_method(PromptPeftType.VIT_PROMPT, ViTPromptConfig, ViTPromptModel)
