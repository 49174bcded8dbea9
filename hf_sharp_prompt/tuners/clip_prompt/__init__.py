from ...compat.peft import register_method
from ..registration import PromptPeftType
from .config import CLIPPromptConfig
from .designs import CLIPDesign
from .model import CLIPPromptModel
from .text_layer import PromptedTextEmbeddings


__all__ = ["CLIPDesign", "CLIPPromptConfig", "CLIPPromptModel", "PromptedTextEmbeddings"]

register_method(PromptPeftType.CLIP_PROMPT, CLIPPromptConfig, CLIPPromptModel)
