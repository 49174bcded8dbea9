from ..registration import PromptPeftType, register
from .config import ViTPromptConfig
from .designs import ViTDesign
from .layer import CosineHead, ViTPrompt
from .model import MODEL_POOLINGS, Pooling, ViTPromptModel


__all__ = ["MODEL_POOLINGS", "CosineHead", "Pooling", "ViTDesign", "ViTPrompt", "ViTPromptConfig", "ViTPromptModel"]

register(PromptPeftType.VIT_PROMPT, ViTPromptConfig, ViTPromptModel)
