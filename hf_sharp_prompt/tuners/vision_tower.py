"""Which vision towers can be prompted, and where the parts of each are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
        attention: Name, in a layer, of its attention, if that has `k_proj` and `v_proj`, and calls the attention
            function of transformers with the layer's keyword arguments. None where this is not known; then the same is
            computed with more work.
        attention_norm: Name, in a layer, of the norm before its attention.
        pools_cls: Whether the pooled output is made of the first token alone.
    """

    embeddings: str
    layers: str
    final_norm: str
    pre_norm: str | None = None
    recorder: str = ""
    position_bias: str | None = None
    attention: str | None = None
    attention_norm: str = ""
    pools_cls: bool = False


IN_VISION_MODEL = r"(.+\.)?vision_model\.embeddings"
ANYWHERE = r"(.+\.)?embeddings"


def clip_layout(embeddings: str, pre_norm: str | None = None) -> VisionTower:
    """Return the places of the parts of a vision tower that is laid out as CLIP's."""
    return VisionTower(embeddings, layers="encoder.layers", final_norm="post_layernorm", pre_norm=pre_norm)


def _clip_tower(embeddings: str, pre_norm: str) -> VisionTower:
    """Return the places of the parts of a CLIP's tower; SigLIP's attention drops the layer's keyword arguments."""
    layout = clip_layout(embeddings, pre_norm)
    return replace(layout, attention="self_attn", attention_norm="layer_norm1", pools_cls=True)


def _vit_tower(layers: str, norm: str, recorder: str = "") -> VisionTower:
    return VisionTower(
        ANYWHERE, layers, "layernorm", recorder=recorder, attention="attention", attention_norm=norm, pools_cls=True
    )


VISION_TOWERS: dict[str, VisionTower] = {
    "clip": _clip_tower(IN_VISION_MODEL, "pre_layrnorm"),
    "clip_vision_model": _clip_tower(ANYWHERE, "pre_layrnorm"),
    "metaclip_2": _clip_tower(IN_VISION_MODEL, "pre_layrnorm"),
    "metaclip_2_vision_model": _clip_tower(ANYWHERE, "pre_layrnorm"),
    "clipseg": _clip_tower(IN_VISION_MODEL, "pre_layrnorm"),
    "clipseg_vision_model": _clip_tower(ANYWHERE, "pre_layrnorm"),
    "owlvit": _clip_tower(IN_VISION_MODEL, "pre_layernorm"),
    "owlvit_vision_model": _clip_tower(ANYWHERE, "pre_layernorm"),
    "owlv2": _clip_tower(IN_VISION_MODEL, "pre_layernorm"),
    "owlv2_vision_model": _clip_tower(ANYWHERE, "pre_layernorm"),
    "siglip": clip_layout(IN_VISION_MODEL),
    "siglip_vision_model": clip_layout(ANYWHERE),
    "siglip2": clip_layout(IN_VISION_MODEL),
    "siglip2_vision_model": clip_layout(ANYWHERE),
    "vit": _vit_tower("layers", "layernorm_before"),
    "deit": _vit_tower("layers", "layernorm_before"),
    "beit": VisionTower(ANYWHERE, layers="layers", final_norm="layernorm", position_bias="relative_position_bias"),
    "dinov2": _vit_tower("encoder.layer", "norm1", recorder="encoder"),
    "dinov2_with_registers": _vit_tower("encoder.layer", "norm1", recorder="encoder"),
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
