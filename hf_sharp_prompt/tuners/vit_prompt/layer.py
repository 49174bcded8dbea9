"""The learned tokens and heads of a vision transformer."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.nn.functional import dropout, linear, normalize

from ..pooled_output import PooledOutput
from ..prompt_layer import PromptLayer
from ..vision_tokens import VisionTokens
from ..vision_tower import VisionModel, VisionTower
from .config import ViTPromptConfig


class PatchEmbeddings(Protocol):
    """The patch embeddings of a vision transformer."""

    patch_size: tuple[int, int]


class ViTEmbeddings(Protocol):
    """The embeddings of a vision transformer, as `ViTPromptConfig` needs them."""

    cls_token: nn.Parameter
    patch_embeddings: PatchEmbeddings


class CosineHead(nn.Module):
    """Logits that are scaled cosines between features and class weights.

    Args:
        width: The width of the features.
        num_labels: Number of classes.
        scale: What the cosines are multiplied by.
    """

    def __init__(
        self,
        width: int,
        num_labels: int,
        scale: float,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, width, device=device, dtype=dtype))
        self.scale = scale

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * linear(normalize(features, dim=-1), normalize(self.weight, dim=-1))


class ViTPrompt(PromptLayer):
    """The learned tokens and heads of all adapters of one vision tower.

    It is the tower's submodule `prompt`; the tower's own modules are not replaced.

    Args:
        tower: The vision tower.
        parts: Where its parts are.
    """

    adapter_layer_names = ("vit_prompt_tokens", "vit_prompt_head")
    other_param_names = ("configs",)

    def __init__(self, tower: VisionModel, parts: VisionTower) -> None:
        super().__init__()
        self.vit_prompt_tokens = nn.ParameterDict()
        self.vit_prompt_head = nn.ModuleDict()
        self.configs: dict[str, ViTPromptConfig] = {}
        self.travelling = VisionTokens(tower, parts, self.active_tokens, self.drop_tokens)
        self.pooled_output = PooledOutput(tower, parts)

    @property
    def active_config(self) -> ViTPromptConfig | None:
        """The config of the adapter that answers this call; None where it is the base model."""
        return None if self.adapter is None else self.configs.get(self.adapter)

    @property
    def active_head(self) -> nn.Linear | CosineHead:
        """The head of the adapter that answers this call."""
        return self.part_of_adapter(self.vit_prompt_head)

    def active_tokens(self) -> nn.Parameter | None:
        """Return the tokens of the adapter that answers this call, depth × n × width, or None."""
        return self.part_of_adapter(self.vit_prompt_tokens)

    def drop_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Drop elements of the tokens while the model trains, as the active adapter's config says."""
        config = self.active_config
        assert config is not None
        return dropout(tokens, config.dropout, self.training)

    def get_base_layer(self) -> nn.Module:
        """Return the tower: PEFT asks for the module that a tuner layer wraps, but this one stands beside others."""
        return cast(nn.Module, self.travelling.tower)

    def update_layer(
        self, adapter_name: str, config: ViTPromptConfig, embeddings: ViTEmbeddings, depth: int, feature_width: int
    ) -> None:
        """Add an adapter's tokens and head.

        Args:
            adapter_name: Its name.
            config: Its config.
            embeddings: The tower's embeddings; the tokens stand next to their CLS.
            depth: Number of prompted layers.
            feature_width: The width of what the head sees.
        """
        like_cls: dict[str, Any] = {"device": embeddings.cls_token.device, "dtype": embeddings.cls_token.dtype}
        width = embeddings.cls_token.shape[-1]
        tokens = torch.empty(depth, config.num_tokens, width, **like_cls)
        if config.init == "xavier":  # as for a projection of a patch of three colours
            bound = math.sqrt(6 / (3 * math.prod(embeddings.patch_embeddings.patch_size) + width))
            tokens.uniform_(-bound, bound)
        else:
            nn.init.trunc_normal_(tokens, std=0.02, a=-0.04, b=0.04)
        self.vit_prompt_tokens[adapter_name] = nn.Parameter(tokens)
        if config.head is not None and config.num_labels is not None:
            head: nn.Linear | CosineHead
            if config.head == "linear":
                head = nn.Linear(feature_width, config.num_labels, **like_cls)
                nn.init.zeros_(head.bias)
            else:
                head = CosineHead(feature_width, config.num_labels, config.scale, **like_cls)
            nn.init.trunc_normal_(head.weight, std=0.02)
            self.vit_prompt_head[adapter_name] = head
        self.configs[adapter_name] = config
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of the active adapter's head, batch × classes.

        Args:
            features: Class features, batch × width.
        """
        head, config = self.active_head, self.active_config
        assert config is not None
        return head(dropout(features.to(head.weight.dtype), config.head_dropout, self.training))
