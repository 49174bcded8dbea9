"""Which text towers can be prompted, and what has to be known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedConfig

from .model_type import model_type_of


EndOfText = Callable[[torch.Tensor, PreTrainedConfig], torch.Tensor]


class TextEmbeddings(Protocol):
    """The embeddings of a text tower."""

    token_embedding: nn.Embedding
    position_embedding: nn.Embedding


class TextAttention(Protocol):
    """The attention of a text tower's layer."""

    config: Any


class TextLayer(Protocol):
    """A layer of a text tower; a module that is called with hidden states and an attention mask."""

    self_attn: TextAttention
    layer_norm1: nn.Module
    gradient_checkpointing: bool
    training: bool

    def __call__(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any) -> Any: ...

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle: ...


class TextLayers(Protocol):
    """The layers of a text tower, in their order."""

    def __iter__(self) -> Iterator[TextLayer]: ...

    def __len__(self) -> int: ...


class TextEncoder(Protocol):
    """What holds the layers of a text tower."""

    layers: TextLayers


class TextModel(Protocol):
    """A text tower: the modules that every type in `TEXT_TOWERS` has, by the names that they have there."""

    config: PreTrainedConfig
    embeddings: TextEmbeddings
    encoder: TextEncoder
    final_layer_norm: nn.Module

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle: ...


@dataclass(frozen=True)
class TextTower:
    """What has to be known of a text tower besides its modules' common names.

    Args:
        end: Called with token ids (texts × length) and the tower's config; returns the position of each text's EOS.
        starts_with_token: Whether every text begins with a token (SOS), behind which the context goes.
        causal: Whether tokens attend to earlier ones only.
        pools_at_end: Whether the feature is read at the text's end; else at the last position, padding or not.
    """

    end: EndOfText
    starts_with_token: bool = True
    causal: bool = True
    pools_at_end: bool = True


def first_eos(input_ids: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Return the position of each text's first EOS."""
    return (input_ids == config.eos_token_id).int().argmax(dim=1)


def highest_id(input_ids: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Return the position of each text's highest token id."""
    return input_ids.int().argmax(dim=1)


def first_eos_or_highest_id(input_ids: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Return the position of each text's EOS. Old CLIP checkpoints wrongly say EOS is 2; they read the highest id."""
    return (highest_id if config.eos_token_id == 2 else first_eos)(input_ids, config)


def first_padding(input_ids: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Return the position of the id that SigLIP's config calls padding; its tokenizers close a text with it."""
    is_padding = input_ids == config.pad_token_id
    last = input_ids.shape[1] - 1
    return torch.where(is_padding.any(dim=1), is_padding.int().argmax(dim=1), last)


TEXT_TOWERS: dict[str, TextTower] = {
    "clip_text_model": TextTower(first_eos_or_highest_id),
    "clipseg_text_model": TextTower(first_eos_or_highest_id),
    "metaclip_2_text_model": TextTower(first_eos),
    "owlvit_text_model": TextTower(highest_id),
    "owlv2_text_model": TextTower(highest_id),
    "siglip_text_model": TextTower(first_padding, starts_with_token=False, causal=False, pools_at_end=False),
    "siglip2_text_model": TextTower(first_padding, starts_with_token=False, causal=False, pools_at_end=False),
}
"""The text towers that can be prompted, by the `model_type` of their config. [`register_text_tower`] adds one."""


def register_text_tower(model_type: str, tower: TextTower) -> None:
    """Make a type of text tower known, so that `CLIPPromptConfig` can prompt its texts.

    The tower's module must have a `config` of this `model_type` and the modules of [`TextModel`]: `embeddings` with
    `token_embedding` and `position_embedding`, `encoder.layers`, and `final_layer_norm`. The layers of a causal tower
    must be laid out as CLIP's, because texts that share their context are encoded together.

    Args:
        model_type: The `model_type` of the tower's config, e.g. `"my_clip_text_model"`.
        tower: What has to be known of it.

    Raises:
        ValueError: The type is known already, as another tower.

    Example:
        ```py
        >>> register_text_tower("my_clip_text_model", TextTower(first_eos))
        ```
    """
    if TEXT_TOWERS.setdefault(model_type, tower) != tower:
        raise ValueError(
            f"The text tower of type {model_type!r} is registered already; give yours another model_type."
        )


def find_text_tower(model: nn.Module) -> tuple[str, TextModel] | None:
    """Return the text tower in a model and its name there (empty for the model itself), or None."""
    for name, module in model.named_modules():
        # Layers and their parts may have the tower's config, but none of them has embeddings.
        if model_type_of(module) in TEXT_TOWERS and hasattr(module, "embeddings"):
            return name, cast(TextModel, module)  # the table vouches for its modules, which torch does not type
    return None


def kind_of(tower: TextModel) -> TextTower:
    """Return what is known of a tower's type."""
    return TEXT_TOWERS[tower.config.model_type]


def max_positions(tower: TextModel) -> int:
    """Return the length of the tower's position table."""
    return tower.embeddings.position_embedding.num_embeddings
