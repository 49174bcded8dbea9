"""The learned tokens beside the patches of an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..vision_tokens import VisionTokens
from ..vision_tower import VisionModel, VisionTower
from .config import CLIPPromptConfig
from .layer import PromptedEmbeddings, device_and_dtype


class PromptedVisionEmbeddings(PromptedEmbeddings):
    """The embeddings of a vision tower, and the learned tokens that travel beside the patches.

    Args:
        base_layer: The tower's own embeddings.
        tower: The tower, through which the tokens travel.
        parts: Where its parts are.
    """

    adapter_layer_names = ("clip_prompt_vision_tokens",)

    def __init__(self, base_layer: nn.Module, tower: VisionModel, parts: VisionTower) -> None:
        super().__init__(base_layer)
        self.clip_prompt_vision_tokens = nn.ParameterDict()
        self._width = tower.config.hidden_size
        self._tokens = VisionTokens(tower, parts, self.active_tokens)

    def active_tokens(self) -> torch.Tensor | None:
        """Return the tokens of the adapter that answers this call, depth × m × width, or None."""
        return self.part_of_adapter(self.clip_prompt_vision_tokens)

    def update_layer(self, adapter_name: str, config: CLIPPromptConfig) -> None:
        """Add an adapter's tokens, drawn from N(0, 0.02²)."""
        make = device_and_dtype(next(self.base_layer.parameters()))
        tokens = torch.empty(config.vision_depth, config.num_vision_tokens, self._width, **make).normal_(std=0.02)
        self.clip_prompt_vision_tokens[adapter_name] = nn.Parameter(tokens)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.base_layer(*args, **kwargs)

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Take the tokens out of the tower; PEFT's `unload` calls it."""
        self._tokens.remove()
        return self.base_layer
