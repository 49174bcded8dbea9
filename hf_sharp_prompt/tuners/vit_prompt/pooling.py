"""What a vision transformer's own head classifies, by the type of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..vision_tower import VisionTower, register_vision_tower


@dataclass(frozen=True)
class Pooling:
    """What a model's own `ForImageClassification` classifies.

    Args:
        feature: Called with the tower's outputs and config; returns the feature, batch × width.
        widths: The width of the feature, in widths of the tower.
    """

    feature: Callable[[BaseModelOutputWithPooling, PreTrainedConfig], torch.Tensor]
    widths: int = 1


def cls(outputs: BaseModelOutputWithPooling, config: PreTrainedConfig) -> torch.Tensor:
    """Return CLS after the final norm."""
    assert outputs.last_hidden_state is not None
    return outputs.last_hidden_state[:, 0]


def cls_and_patches(outputs: BaseModelOutputWithPooling, config: PreTrainedConfig) -> torch.Tensor:
    """Return CLS and the mean of the patches, side by side."""
    assert outputs.last_hidden_state is not None
    registers = getattr(config, "num_register_tokens", 0)
    return torch.cat([cls(outputs, config), outputs.last_hidden_state[:, 1 + registers :].mean(dim=1)], dim=1)


def pooler(outputs: BaseModelOutputWithPooling, config: PreTrainedConfig) -> torch.Tensor:
    """Return the output of the model's pooling layer."""
    if outputs.pooler_output is None:
        raise ValueError(
            "pooling='model' needs the model's pooling layer, but it was made without one (add_pooling_layer=False); "
            "use pooling='cls'."
        )
    return outputs.pooler_output


MODEL_POOLINGS: dict[str, Pooling] = {
    "vit": Pooling(cls),
    "deit": Pooling(cls),
    "beit": Pooling(pooler),
    "dinov2": Pooling(cls_and_patches, widths=2),
    "dinov2_with_registers": Pooling(cls_and_patches, widths=2),
}
"""The model types that `ViTPromptConfig` knows. [`register_vit`] adds one."""


def register_vit(model_type: str, tower: VisionTower, pooling: Pooling) -> None:
    """Make a type of vision transformer known, so that `ViTPromptConfig` can prompt it.

    Its embeddings must have a `cls_token` and `patch_embeddings` with a `patch_size`, as those of `ViTModel`.
    [`register_vision_tower`] says what its tower must be like.

    Args:
        model_type: The `model_type` of the model's config, e.g. `"my_vit"`.
        tower: Where the tower's parts are.
        pooling: What the model's own head classifies, for `pooling="model"`.

    Raises:
        ValueError: The type is known already, in another way.

    Example:
        ```py
        >>> register_vit("my_vit", VisionTower(ANYWHERE, layers="layers", final_norm="layernorm"), Pooling(cls))
        ```
    """
    register_vision_tower(model_type, tower)
    if MODEL_POOLINGS.setdefault(model_type, pooling) != pooling:
        raise ValueError(f"Models of type {model_type!r} are registered with another pooling; use another model_type.")
