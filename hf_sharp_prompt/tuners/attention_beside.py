"""Attention to tokens beside the sequence: they are keys and values, and nothing else is computed of them.

Where nobody reads what a layer makes of some tokens, they need no query, no output projection and no MLP. Their
states, normalised as the layer normalises its input, travel in the layer's keyword argument `beside` to an attention
function that is registered with transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from ..compat.torch import is_watched
from ..compat.transformers import RoutedConfig, configured_attention, is_recording
from .vision_tower import VisionTower


ATTENTION = "attention_beside"
FUNCTIONS = ("eager", "sdpa")
"""The attention functions that are known to take more keys than queries."""


def attention_beside(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    beside: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend as the tower's config says, to the sequence and to the tokens beside it.

    Args:
        module: The attention module that asks.
        query: images × heads × tokens × head width, like `key` and `value`.
        beside: Normalised states of the tokens beside the sequence, images × number × width, or 1 × number × width
            if they are the same for all images.

    Returns:
        What the attention function of the tower's config returns.
    """
    if beside is not None:
        key, value = (
            torch.cat([states, _project(module, name, beside, query).expand(query.shape[0], -1, -1, -1)], dim=2)
            for name, states in (("k_proj", key), ("v_proj", value))
        )
    return configured_attention(module)(module, query, key, value, attention_mask, **kwargs)


def _project(module: nn.Module, name: str, states: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return module.get_submodule(name)(states).unflatten(-1, (-1, query.shape[-1])).transpose(1, 2)


AttentionInterface.register(ATTENTION, attention_beside)


def let_attend_beside(layer: nn.Module, parts: VisionTower) -> None:
    """Let a layer's attention call [`attention_beside`], where that is known to work; nothing else changes."""
    if parts.attention is not None:
        attention: Any = layer.get_submodule(parts.attention)
        if not isinstance(attention.config, RoutedConfig):
            attention.config = RoutedConfig(attention.config, ATTENTION)


def restore_attention(layer: nn.Module, parts: VisionTower) -> None:
    """Let a layer's attention look up its function as before `let_attend_beside`."""
    if parts.attention is not None:
        attention: Any = layer.get_submodule(parts.attention)
        if isinstance(attention.config, RoutedConfig):
            attention.config = attention.config.base


def can_attend_beside(layer: nn.Module, parts: VisionTower, attention_mask: Any) -> bool:
    """Tell whether tokens may be beside a layer's sequence in this call.

    They may not in compiled models, whose graph this would break, nor where somebody would miss them: recorded hidden
    states and attentions, and hooks of others, see the whole sequence. Gradient checkpointing may be of the kind that
    gives keyword arguments no gradient.

    Args:
        layer: A layer that `let_attend_beside` has prepared.
        parts: Where the tower's parts are.
        attention_mask: The mask that the layer is called with.
    """
    if torch.compiler.is_compiling() or parts.attention is None or attention_mask is not None or is_recording():
        return False
    attention: Any = layer.get_submodule(parts.attention)
    if attention.config.base._attn_implementation not in FUNCTIONS or is_watched(layer) or is_watched(attention):
        return False
    return not (layer.training and getattr(layer, "gradient_checkpointing", False))
