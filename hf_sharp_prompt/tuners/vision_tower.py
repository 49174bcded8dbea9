"""Which vision towers can be prompted, and where the parts of each are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import nn
from transformers import PreTrainedConfig

from .model_type import model_type_of


class VisionModel(Protocol):
    """A vision tower; where its modules are stands in `VISION_TOWERS`."""

    config: PreTrainedConfig

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def get_submodule(self, target: str) -> nn.Module: ...

    def add_module(self, name: str, module: nn.Module | None) -> None: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class VisionTower:
    """Where the parts of a vision tower are.

    Args:
        embeddings: Regular expression for the whole name, within a model, of the tower's embeddings module. The tower
            is the module that holds it.
        layers: Path from the tower to its layers.
        final_norm: Path to the norm after the last layer.
        pre_norm: Path to the norm between embeddings and layers, which the tokens pass, too; None if there is none.
        recorder: Path to the module whose outputs list the `hidden_states`; by default the tower itself.
        position_bias: Name, in a layer, of the module that makes its relative position biases.
    """

    embeddings: str
    layers: str
    final_norm: str
    pre_norm: str | None = None
    recorder: str = ""
    position_bias: str | None = None


IN_VISION_MODEL = r"(.+\.)?vision_model\.embeddings"
ANYWHERE = r"(.+\.)?embeddings"


def clip_layout(embeddings: str, pre_norm: str | None = None) -> VisionTower:
    """Return the places of the parts of a vision tower that is laid out as CLIP's."""
    return VisionTower(embeddings, layers="encoder.layers", final_norm="post_layernorm", pre_norm=pre_norm)


VISION_TOWERS: dict[str, VisionTower] = {
    "clip": clip_layout(IN_VISION_MODEL, "pre_layrnorm"),
    "clip_vision_model": clip_layout(ANYWHERE, "pre_layrnorm"),
    "metaclip_2": clip_layout(IN_VISION_MODEL, "pre_layrnorm"),
    "metaclip_2_vision_model": clip_layout(ANYWHERE, "pre_layrnorm"),
    "clipseg": clip_layout(IN_VISION_MODEL, "pre_layrnorm"),
    "clipseg_vision_model": clip_layout(ANYWHERE, "pre_layrnorm"),
    "owlvit": clip_layout(IN_VISION_MODEL, "pre_layernorm"),
    "owlvit_vision_model": clip_layout(ANYWHERE, "pre_layernorm"),
    "owlv2": clip_layout(IN_VISION_MODEL, "pre_layernorm"),
    "owlv2_vision_model": clip_layout(ANYWHERE, "pre_layernorm"),
    "siglip": clip_layout(IN_VISION_MODEL),
    "siglip_vision_model": clip_layout(ANYWHERE),
    "siglip2": clip_layout(IN_VISION_MODEL),
    "siglip2_vision_model": clip_layout(ANYWHERE),
    "vit": VisionTower(ANYWHERE, layers="layers", final_norm="layernorm"),
    "deit": VisionTower(ANYWHERE, layers="layers", final_norm="layernorm"),
    "beit": VisionTower(ANYWHERE, layers="layers", final_norm="layernorm", position_bias="relative_position_bias"),
    "dinov2": VisionTower(ANYWHERE, layers="encoder.layer", final_norm="layernorm", recorder="encoder"),
    "dinov2_with_registers": VisionTower(ANYWHERE, layers="encoder.layer", final_norm="layernorm", recorder="encoder"),
}
"""The vision towers that can be prompted, by `config.model_type` of the model. [`register_vision_tower`] adds one."""


def register_vision_tower(model_type: str, tower: VisionTower) -> None:
    """Make a type of vision tower known, so that learned tokens can travel through it.

    The tower must have a `config` with `hidden_size` and `num_hidden_layers`. Its layers take the hidden states, batch
    × length × width, as their first argument, an attention mask, if any, as their second or as `attention_mask`, and
    return hidden states.

    Args:
        model_type: `config.model_type` of the model that is prompted, e.g. `"my_clip"`. If the tower is also used by
            itself, it has another type there, which needs another entry.
        tower: Where the tower's parts are.

    Raises:
        ValueError: The type is known already, with its parts elsewhere.

    Example:
        ```py
        >>> register_vision_tower("my_clip", clip_layout(IN_VISION_MODEL, "pre_layrnorm"))
        ```
    """
    if VISION_TOWERS.setdefault(model_type, tower) != tower:
        raise ValueError(
            f"The vision tower of models of type {model_type!r} is registered already; give yours another model_type."
        )


def find_vision_tower(model: nn.Module) -> tuple[VisionModel, VisionTower]:
    """Return the vision tower within a model, and where its parts are.

    Raises:
        ValueError: A model of unknown type, or one without a vision tower.
    """
    model_type = model_type_of(model)
    if model_type not in VISION_TOWERS:
        raise ValueError(
            f"The vision tower of models of type {model_type!r} is not known; known are "
            f"{', '.join(sorted(VISION_TOWERS))}. To add it, say where its parts are: "
            f"hf_sharp_prompt.tuners.register_vision_tower({model_type!r}, VisionTower(...))."
        )
    parts = VISION_TOWERS[model_type]
    for name, _ in model.named_modules():
        if re.fullmatch(parts.embeddings, name):
            tower = model.get_submodule(name.rpartition(".")[0])
            return cast(VisionModel, tower), parts  # the table vouches for its config, which torch does not type
    raise ValueError(f"{type(model).__name__} has no vision tower: no module is named {parts.embeddings!r}.")
