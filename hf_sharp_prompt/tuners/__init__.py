"""Where learned tokens enter a model: PEFT methods, one folder each, as in `peft.tuners`."""

from .clip_prompt import CLIPPromptConfig, CLIPPromptModel
from .vit_prompt import ViTPromptConfig, ViTPromptModel


__all__ = ["CLIPPromptConfig", "CLIPPromptModel", "ViTPromptConfig", "ViTPromptModel"]
