"""Where learned tokens enter a model: PEFT methods, one folder each, as in `peft.tuners`."""

from .clip_prompt import CLIPPromptConfig, CLIPPromptModel
from .sharding import shard_frozen_layers
from .text_tower import TextTower, register_text_tower
from .vision_tower import VisionTower, register_vision_tower
from .vit_prompt import Pooling, ViTPromptConfig, ViTPromptModel, register_vit


__all__ = [
    "CLIPPromptConfig",
    "CLIPPromptModel",
    "Pooling",
    "TextTower",
    "ViTPromptConfig",
    "ViTPromptModel",
    "VisionTower",
    "register_text_tower",
    "register_vision_tower",
    "register_vit",
    "shard_frozen_layers",
]
