from ..registration import PromptPeftType, register
from .config import CLIPPromptConfig
from .designs import CLIPDesign
from .layer import PromptedTextEmbeddings
from .model import CLIPPromptModel


__all__ = ["CLIPDesign", "CLIPPromptConfig", "CLIPPromptModel", "PromptedTextEmbeddings"]

register(PromptPeftType.CLIP_PROMPT, CLIPPromptConfig, CLIPPromptModel)
