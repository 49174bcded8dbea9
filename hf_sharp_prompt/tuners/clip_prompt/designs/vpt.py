"""VPT: tokens beside the patches of the image tower, texts as they are."""

from __future__ import annotations

from typing import Any

from ...prompt_design import Reference
from ..config import CLIPPromptConfig
from .checkpoint import Checkpoint, Place, Shapes, count, count_tokens
from .design import CLIPDesign


class VPTCheckpoint(Checkpoint):
    """The whole model of MaPLe's repository: `image_encoder.VPT`, and what stands in the deeper layers."""

    requires = "image_encoder.VPT"
    is_whole_model = True

    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        return {"num_text_tokens": 0, **read_vision_tokens(shapes)}

    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        return vision_places(config)


class VPT(CLIPDesign, name="vpt"):
    """VPT-deep on CLIP, as MaPLe's authors run it: 8 tokens before each of 12 vision layers, texts as they are.

    Classes get the hand-written prompt: `set_classes(names, tokenizer, "a photo of a {}.")`.
    """

    title = "VPT"
    reference = Reference("Jia et al., “Visual Prompt Tuning”, ECCV 2022", "https://arxiv.org/abs/2203.12119")
    fields = {"num_text_tokens": 0, "num_vision_tokens": 8, "vision_depth": 12}
    fixed = ["num_text_tokens"]
    words = "a photo of a"
    checkpoint = VPTCheckpoint()


def read_vision_tokens(shapes: Shapes) -> dict[str, Any]:
    """The fields that the tokens in the image tower tell."""
    if "image_encoder.VPT" not in shapes:
        return {}
    return {
        "num_vision_tokens": count_tokens(shapes, "image_encoder.VPT"),
        "vision_depth": count(shapes, "image_encoder."),
    }


def vision_places(config: CLIPPromptConfig) -> dict[str, Place]:
    """Where the tokens in the image tower are in an adapter."""
    depth = config.vision_depth if config.num_vision_tokens else 0
    names = ["VPT", *(f"transformer.resblocks.{layer}.VPT_shallow" for layer in range(1, depth))]
    return {f"image_encoder.{name}": Place("clip_prompt_vision_tokens", row) for row, name in enumerate(names[:depth])}
