from ..registration import PromptPeftType, register
from .config import CLIPPromptConfig
from .layer import PromptedTextEmbeddings
from .model import CLIPPromptModel


__all__ = ["CLIPPromptConfig", "CLIPPromptModel", "PromptedTextEmbeddings"]

register(PromptPeftType.CLIP_PROMPT, CLIPPromptConfig, CLIPPromptModel)
