"""Which text towers can be prompted, and what there is to know of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig


EndOfText = Callable[[torch.LongTensor, PretrainedConfig], torch.LongTensor]


@dataclass(frozen=True)
class TextTower:
    """What has to be known of a text tower besides its modules' common names.

    Args:
        end: Where each text ends: from token ids (texts × length) and the tower's config to the positions of its EOS.
        starts_with_token: Whether texts begin with a token of their own (SOS), behind which the context goes.
        causal: Whether tokens attend to earlier ones only.
        pools_at_end: Whether the feature is read at the text's end; else at the last position, padding or not.
    """

    end: EndOfText
    starts_with_token: bool = True
    causal: bool = True
    pools_at_end: bool = True


def first_eos(input_ids: torch.LongTensor, config: PretrainedConfig) -> torch.LongTensor:
    return (input_ids == config.eos_token_id).int().argmax(dim=1)


def highest_id(input_ids: torch.LongTensor, config: PretrainedConfig) -> torch.LongTensor:
    return input_ids.int().argmax(dim=1)


def first_eos_or_highest_id(input_ids: torch.LongTensor, config: PretrainedConfig) -> torch.LongTensor:
    """CLIP's checkpoints from before EOS was configured rightly say 2, and are read at the highest id."""
    return (highest_id if config.eos_token_id == 2 else first_eos)(input_ids, config)


def first_padding(input_ids: torch.LongTensor, config: PretrainedConfig) -> torch.LongTensor:
    """SigLIP's tokenizers close a text with the id that its config calls padding."""
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
"""By the `model_type` of the tower's config. A tower has token and position embeddings in `embeddings`, layers in
`encoder.layers` and `final_layer_norm` behind them; one more that has is made known by an entry here."""


def find_text_tower(model: nn.Module) -> tuple[str, nn.Module] | None:
    """The text tower in a model and its name there (empty for the model itself), or None."""
    for name, module in model.named_modules():
        is_known = getattr(getattr(module, "config", None), "model_type", None) in TEXT_TOWERS
        if is_known and hasattr(module, "embeddings"):
            return name, module
    return None


def max_positions(tower: nn.Module) -> int:
    """The length of the tower's position table."""
    return tower.embeddings.position_embedding.num_embeddings
