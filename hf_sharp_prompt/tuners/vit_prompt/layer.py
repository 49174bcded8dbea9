from __future__ import annotations

import math

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.functional import dropout, linear, normalize

from ..vision_tower import VisionTokens, VisionTower
from .config import ViTPromptConfig


class CosineHead(nn.Module):
    """Logits that are scaled cosines between features and class weights.

    Args:
        width: Of the features.
        num_labels: Number of classes.
        scale: Of the logits.
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


class ViTPrompt(nn.Module, BaseTunerLayer):
    """The learned tokens, and heads, of all adapters of one vision tower.

    Stands in the tower as its submodule `prompt`; the tower's own modules are not replaced.

    Args:
        tower: The vision tower.
        parts: Where its parts are.
    """

    adapter_layer_names = ("vit_prompt_tokens", "vit_prompt_head")
    other_param_names = ("configs",)

    def __init__(self, tower: nn.Module, parts: VisionTower) -> None:
        super().__init__()
        self.vit_prompt_tokens = nn.ParameterDict()
        self.vit_prompt_head = nn.ModuleDict()
        self.configs: dict[str, ViTPromptConfig] = {}
        self.travelling = VisionTokens(tower, parts, self.active_tokens, self.drop_tokens)

    @property
    def active_config(self) -> ViTPromptConfig | None:
        """The active adapter's; None while adapters are disabled or none is active."""
        if self.disable_adapters or not self.active_adapters:
            return None
        return self.configs[self.active_adapters[0]]

    @property
    def active_head(self) -> nn.Module:
        return self.vit_prompt_head[self.active_adapters[0]]

    def active_tokens(self) -> nn.Parameter | None:
        """The active adapter's, depth × n × width."""
        return None if self.active_config is None else self.vit_prompt_tokens[self.active_adapters[0]]

    def drop_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        return dropout(tokens, self.active_config.dropout, self.training)

    def get_base_layer(self) -> nn.Module:
        """What PEFT takes for the module that a tuner layer wraps; this one wraps none, and stands in the tower."""
        return self.travelling.tower

    def update_layer(
        self, adapter_name: str, config: ViTPromptConfig, embeddings: nn.Module, depth: int, feature_width: int
    ) -> None:
        """Add an adapter's tokens and head.

        Args:
            adapter_name: Its name.
            config: Its config.
            embeddings: The tower's, next to whose CLS the tokens belong.
            depth: Number of prompted layers.
            feature_width: Of what the head sees.
        """
        like_cls = {"device": embeddings.cls_token.device, "dtype": embeddings.cls_token.dtype}
        width = embeddings.cls_token.shape[-1]
        tokens = torch.empty(depth, config.num_tokens, width, **like_cls)
        if config.init == "xavier":  # of a projection of a patch of three colours
            bound = math.sqrt(6 / (3 * math.prod(embeddings.patch_embeddings.patch_size) + width))
            tokens.uniform_(-bound, bound)
        else:
            nn.init.trunc_normal_(tokens, std=0.02, a=-0.04, b=0.04)
        self.vit_prompt_tokens[adapter_name] = nn.Parameter(tokens)
        if config.head is not None:
            if config.head == "linear":
                head = nn.Linear(feature_width, config.num_labels, **like_cls)
                nn.init.zeros_(head.bias)
            else:
                head = CosineHead(feature_width, config.num_labels, config.scale, **like_cls)
            nn.init.trunc_normal_(head.weight, std=0.02)
            self.vit_prompt_head[adapter_name] = head
        self.configs[adapter_name] = config
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """Called by PEFT where it loads without copying; keeps the saved precision, which PEFT's own would not."""
        device = device or self.travelling.tower.device
        tokens = self.vit_prompt_tokens[adapter_name]
        tokens.data = tokens.data.to(device)
        if adapter_name in self.vit_prompt_head:
            self.vit_prompt_head[adapter_name].to(device)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the active adapter's head, batch × classes.

        Args:
            features: Class features, batch × width.
        """
        head = self.active_head
        features = dropout(features.to(head.weight.dtype), self.active_config.head_dropout, self.training)
        return head(features)
