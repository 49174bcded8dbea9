"""A tiny random model of every type in `VISION_TOWERS`, with inputs, and its towers written out slowly."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.functional import pad


LAYERS = 3
WIDTH = 16
SIZES = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
IMAGE = {**SIZES, "image_size": 24, "patch_size": 8}
TEXT = {**SIZES, "vocab_size": 30, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 29}
BATCH = 2

# Two images of NaFlex patches, the second with padding.
NAFLEX = {
    "pixel_values": torch.randn(BATCH, 9, 3 * 64, generator=torch.Generator().manual_seed(0)),
    "pixel_attention_mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3]),
    "spatial_shapes": torch.tensor([[3, 3], [2, 3]]),
}


def pixels(height: int = 24, width: int = 24) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {"pixel_values": torch.randn(BATCH, 3, height, width, generator=generator)}


def larger(interpolate: bool = True) -> dict[str, Any]:
    """Images larger than the model's own."""
    return pixels(32, 40) | ({"interpolate_pos_encoding": True} if interpolate else {})


def texts() -> dict[str, Any]:
    return {"input_ids": torch.tensor([[0, 5, 6, 29], [0, 7, 8, 29]])}


def single(name: str, **config: Any) -> Callable[[], nn.Module]:
    """A model whose config is its tower's."""

    def make() -> nn.Module:
        model_class = getattr(transformers, name)
        return model_class(model_class.config_class(**(IMAGE | config)))

    return make


def naflex(name: str) -> Callable[[], nn.Module]:
    return single(name, image_size=None, num_patches=16)


def double(name: str, text: dict[str, Any] = TEXT, vision: dict[str, Any] = IMAGE, **config: Any) -> Callable:
    """A model of two towers."""

    def make() -> nn.Module:
        model_class = getattr(transformers, name)
        return model_class(model_class.config_class(text_config=text, vision_config=vision, **config))

    return make


NAFLEX_SIZES = {**SIZES, "patch_size": 8, "num_patches": 16}
CLIPSEG = {"extract_layers": [0, 1, 2], "reduce_dim": 8, "decoder_num_attention_heads": 2, "projection_dim": 12}
MASKED = {"attention_mask": torch.tensor([[1] * 10, [1] * 7 + [0] * 3])}
CLIPSEG_INPUTS = pixels() | texts()

# name → (maker, inputs of the whole model)
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "CLIPModel": (double("CLIPModel", projection_dim=12), pixels() | texts()),
    "CLIPVisionModel": (single("CLIPVisionModel"), pixels()),
    "CLIPVisionModel, larger images": (single("CLIPVisionModel"), larger()),
    "CLIPVisionModelWithProjection": (single("CLIPVisionModelWithProjection"), pixels()),
    "CLIPForImageClassification": (double("CLIPForImageClassification"), pixels()),
    "MetaClip2Model": (double("MetaClip2Model", projection_dim=12), pixels() | texts()),
    "MetaClip2VisionModel": (single("MetaClip2VisionModel"), pixels()),
    "MetaClip2VisionModelWithProjection": (single("MetaClip2VisionModelWithProjection"), pixels()),
    "MetaClip2ForImageClassification": (double("MetaClip2ForImageClassification"), pixels()),
    "CLIPSegModel": (double("CLIPSegModel", projection_dim=12), pixels() | texts()),
    "CLIPSegVisionModel": (single("CLIPSegVisionModel"), pixels()),
    "CLIPSegForImageSegmentation": (double("CLIPSegForImageSegmentation", **CLIPSEG), CLIPSEG_INPUTS),
    "OwlViTModel": (double("OwlViTModel", projection_dim=12), pixels() | texts()),
    "OwlViTVisionModel": (single("OwlViTVisionModel"), pixels()),
    "OwlViTForObjectDetection": (double("OwlViTForObjectDetection", projection_dim=WIDTH), pixels() | texts()),
    "Owlv2Model": (double("Owlv2Model", projection_dim=12), pixels() | texts()),
    "Owlv2VisionModel": (single("Owlv2VisionModel"), pixels()),
    "Owlv2ForObjectDetection": (double("Owlv2ForObjectDetection", projection_dim=WIDTH), pixels() | texts()),
    "SiglipModel": (double("SiglipModel"), pixels() | texts()),
    "SiglipVisionModel": (single("SiglipVisionModel"), pixels()),
    "SiglipVisionModel, larger images": (single("SiglipVisionModel"), larger()),
    "SiglipForImageClassification": (double("SiglipForImageClassification"), pixels()),
    "Siglip2Model": (double("Siglip2Model", vision=NAFLEX_SIZES), NAFLEX | texts()),
    "Siglip2VisionModel": (naflex("Siglip2VisionModel"), NAFLEX),
    "Siglip2ForImageClassification": (double("Siglip2ForImageClassification", vision=NAFLEX_SIZES), NAFLEX),
    "ViTModel": (single("ViTModel"), pixels()),
    "ViTModel, larger images": (single("ViTModel"), larger()),
    "ViTModel, masked": (
        single("ViTModel"),
        pixels() | {"attention_mask": torch.tensor([[1] * 10, [1] * 7 + [0] * 3])},
    ),
    "ViTForImageClassification": (single("ViTForImageClassification"), pixels()),
    "DeiTModel": (single("DeiTModel"), pixels()),
    "DeiTForImageClassification": (single("DeiTForImageClassification"), pixels()),
    "DeiTForImageClassificationWithTeacher": (single("DeiTForImageClassificationWithTeacher"), pixels()),
    "Dinov2Model": (single("Dinov2Model"), pixels()),
    "Dinov2Model, larger images": (single("Dinov2Model"), larger(interpolate=False)),
    "Dinov2ForImageClassification": (single("Dinov2ForImageClassification"), pixels()),
    "Dinov2Backbone": (single("Dinov2Backbone"), pixels()),
    "Dinov2WithRegistersModel": (single("Dinov2WithRegistersModel"), pixels()),
    "Dinov2WithRegistersForImageClassification": (single("Dinov2WithRegistersForImageClassification"), pixels()),
    "BeitModel": (single("BeitModel", use_absolute_position_embeddings=True), pixels()),
    "BeitModel, relative": (single("BeitModel", use_relative_position_bias=True), pixels()),
    "BeitModel, relative, larger images": (single("BeitModel", use_relative_position_bias=True), larger()),
    "BeitModel, shared relative": (single("BeitModel", use_shared_relative_position_bias=True), pixels()),
    "BeitForImageClassification": (single("BeitForImageClassification", use_relative_position_bias=True), pixels()),
    "BeitBackbone": (single("BeitBackbone", use_relative_position_bias=True), pixels()),
}


@functools.cache
def _original(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name][0]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def make_model(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """With weights large enough that every part matters."""
    return copy.deepcopy(_original(name)).to(dtype)


def inputs_of(name: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    return {
        key: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in MODELS[name][1].items()
    }


def slow_tower(
    name: str, tower: nn.Module, inputs: dict[str, Any], tokens: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The hidden states of every layer with the learned tokens cut off, and the tokens' outputs of the last layer.

    The sequence is built by hand and goes through the model's own layers one by one, with the mask and the relative
    position biases written out entry by entry.
    """
    family = type(tower).__name__.removesuffix("VisionTransformer")
    images = inputs["pixel_values"]
    if family.startswith("Siglip2"):
        states = tower.embeddings(images, inputs["spatial_shapes"])
    elif inputs.get("interpolate_pos_encoding") and not family.startswith("Beit"):
        states = tower.embeddings(images, interpolate_pos_encoding=True)
    else:
        states = tower.embeddings(images)
    own, number = states.shape[1], tokens.shape[1]

    def with_tokens(index: int, states: torch.Tensor) -> torch.Tensor:
        return torch.cat([states[:, :own], tokens[index][None].repeat(len(states), 1, 1)], dim=1)

    states = with_tokens(0, states)
    for norm in ("pre_layrnorm", "pre_layernorm"):
        states = getattr(tower, norm, nn.Identity())(states)
    layers = next(getattr(tower, each) for each in ("layers", "encoder") if hasattr(tower, each))
    layers = next((getattr(layers, each) for each in ("layers", "layer") if hasattr(layers, each)), layers)

    padding = inputs.get("pixel_attention_mask", inputs.get("attention_mask"))
    mask = None
    if padding is not None:
        mask = torch.zeros(len(states), 1, own + number, own + number, dtype=states.dtype)
        for image in range(len(states)):
            for key in range(own):
                if padding[image, key] == 0:
                    mask[image, :, :, key] = -torch.inf

    hidden_states = [states[:, :own]]
    for index, layer in enumerate(layers):
        if 0 < index < len(tokens):
            states = with_tokens(index, states)
        if family.startswith("Beit"):
            grid = [side // tower.config.patch_size for side in images.shape[2:]]
            own_bias = layer.relative_position_bias or tower.shared_position_bias
            bias = None if own_bias is None else pad(slow_bias(own_bias, *grid), (0, number, 0, number))
            states = beit_layer(layer, states, bias)
        else:
            states = layer(states, mask)
        hidden_states.append(states[:, :own])
    return hidden_states, states[:, own:]


def slow_bias(module: nn.Module, height: int, width: int) -> torch.Tensor:
    """BEiT's relative position biases, pair by pair: 1 × heads × length × length."""
    table = module.relative_position_bias_table
    old_height, old_width = (2 * side - 1 for side in module.window_size)
    of_offsets = table[:-3].reshape(1, old_width, old_height, -1).permute(0, 3, 1, 2)
    of_offsets = nn.functional.interpolate(of_offsets, size=(2 * height - 1, 2 * width - 1), mode="bilinear")[0]
    length = height * width + 1
    bias = torch.zeros(table.shape[1], length, length, dtype=table.dtype)
    bias[:, 0, :], bias[:, :, 0], bias[:, 0, 0] = table[-3][:, None], table[-2][:, None], table[-1]
    for query in range(height * width):
        for key in range(height * width):
            row = query // width - key // width + height - 1
            column = query % width - key % width + width - 1
            bias[:, query + 1, key + 1] = of_offsets[:, row, column]
    return bias[None]


def beit_layer(layer: nn.Module, states: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    attended, _ = layer.attention(layer.layernorm_before(states), attention_mask=bias)
    states = states + layer.lambda_1 * attended
    return states + layer.lambda_2 * layer.mlp(layer.layernorm_after(states))
