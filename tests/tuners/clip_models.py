"""A tiny random model of every CLIP-like type, with the demo's tokenizer, and inputs for each."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AutoTokenizer, CLIPTokenizer

from hf_sharp_prompt.demo import CLIP_PATH


LAYERS = 3
TEXT_WIDTH, VISION_WIDTH, PROJECTION = 16, 32, 48
BATCH = 2


@functools.cache
def clip_tokenizer() -> CLIPTokenizer:
    return AutoTokenizer.from_pretrained(CLIP_PATH)


@functools.cache
def siglip_tokenizer() -> CLIPTokenizer:
    """The same words without a token in front, as SigLIP's tokenizers have none."""
    tokenizer = copy.deepcopy(clip_tokenizer())
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return tokenizer


def tokenizer_of(name: str) -> CLIPTokenizer:
    return siglip_tokenizer() if name.startswith("Siglip") else clip_tokenizer()


def text_config(name: str) -> dict[str, Any]:
    tokenizer = tokenizer_of(name)
    return {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 24,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16 if name.startswith("Owl") else 20,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | ({"projection_size": VISION_WIDTH} if name.startswith("Siglip") else {})


def vision_config(name: str) -> dict[str, Any]:
    sizes = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 40,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "patch_size": 16,
    }
    return sizes | ({"num_patches": 16} if name.startswith("Siglip2") else {"image_size": 48})


def two_towers(name: str, **config: Any) -> nn.Module:
    model_class = getattr(transformers, name)
    return model_class(
        model_class.config_class(text_config=text_config(name), vision_config=vision_config(name), **config)
    )


def text_tower(name: str) -> nn.Module:
    model_class = getattr(transformers, name)
    return model_class(model_class.config_class(**text_config(name), projection_dim=PROJECTION))


def vision_tower(name: str) -> nn.Module:
    model_class = getattr(transformers, name)
    return model_class(model_class.config_class(**vision_config(name), projection_dim=PROJECTION))


PROJECTED = {"projection_dim": PROJECTION}
SEGMENTS = {**PROJECTED, "extract_layers": [0, 1, 2], "reduce_dim": 8, "decoder_num_attention_heads": 2}

COMPARING: dict[str, dict[str, Any]] = {
    "CLIPModel": PROJECTED,
    "MetaClip2Model": PROJECTED,
    "CLIPSegModel": PROJECTED,
    "OwlViTModel": PROJECTED,
    "Owlv2Model": PROJECTED,
    "SiglipModel": {},
    "Siglip2Model": {},
}
"""Models that compare images with texts, and their configs besides those of the towers."""

BUILT_ON: dict[str, dict[str, Any]] = {
    "CLIPSegForImageSegmentation": SEGMENTS,
    "OwlViTForObjectDetection": {"projection_dim": TEXT_WIDTH},
    "Owlv2ForObjectDetection": {"projection_dim": TEXT_WIDTH},
}
"""Models that hold one of those."""

READING = [
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPSegTextModel",
    "MetaClip2TextModel",
    "MetaClip2TextModelWithProjection",
    "OwlViTTextModel",
    "Owlv2TextModel",
    "SiglipTextModel",
    "Siglip2TextModel",
]
SEEING = [
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "CLIPForImageClassification",
    "CLIPSegVisionModel",
    "MetaClip2VisionModel",
    "MetaClip2VisionModelWithProjection",
    "MetaClip2ForImageClassification",
    "OwlViTVisionModel",
    "Owlv2VisionModel",
    "SiglipVisionModel",
    "SiglipForImageClassification",
    "Siglip2VisionModel",
    "Siglip2ForImageClassification",
]

MODELS: dict[str, Callable[[], nn.Module]] = (
    {name: functools.partial(two_towers, name, **config) for name, config in (COMPARING | BUILT_ON).items()}
    | {name: functools.partial(text_tower, name) for name in READING}
    | {name: functools.partial(two_towers if "For" in name else vision_tower, name) for name in SEEING}
)


@functools.cache
def _original(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def make_model(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """With weights large enough that every part matters."""
    return copy.deepcopy(_original(name)).to(dtype)


def comparing_part(model: nn.Module) -> nn.Module:
    """What compares images with texts in a model built on it; else the model itself."""
    return next((getattr(model, part) for part in ("clip", "owlvit", "owlv2") if hasattr(model, part)), model)


def reads(name: str) -> bool:
    return name not in SEEING


def sees(name: str) -> bool:
    return name not in READING


def image_inputs(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Two images; NaFlex patches for SigLIP 2, the second image with padding."""
    generator = torch.Generator().manual_seed(0)
    if name.startswith("Siglip2"):
        return {
            "pixel_values": torch.randn(BATCH, 9, 3 * 16 * 16, generator=generator, dtype=dtype),
            "pixel_attention_mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3]),
            "spatial_shapes": torch.tensor([[3, 3], [2, 3]]),
        }
    return {"pixel_values": torch.randn(BATCH, 3, 48, 48, generator=generator, dtype=dtype)}


def text_inputs(name: str, texts: list[str]) -> dict[str, torch.Tensor]:
    """As the model's processor makes them; SigLIP's pads to the full length and gives no mask."""
    tokenizer = tokenizer_of(name)
    if name.startswith("Siglip"):
        length = text_config(name)["max_position_embeddings"]
        return {"input_ids": tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt").input_ids}
    return dict(tokenizer(texts, padding=True, return_tensors="pt"))


def inputs_of(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Make inputs for the whole model: images and as many texts, or whichever it takes."""
    texts = text_inputs(name, ["a red star", "cat"]) if reads(name) else {}
    return texts | (image_inputs(name, dtype) if sees(name) else {})
