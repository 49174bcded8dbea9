"""IVLP: independent deep prompts in both towers."""

from __future__ import annotations

from typing import Any

from ...prompt_design import Reference
from ..config import CLIPPromptConfig
from .checkpoint import Checkpoint, Place, Shapes, count, read_context
from .design import CLIPDesign
from .vpt import read_vision_tokens, vision_places


class IVLPCheckpoint(Checkpoint):
    """The whole model of MaPLe's repository: `ctx`, and what stands in the towers' layers."""

    requires = "ctx"
    is_whole_model = True
    has_no_place_for = ("class_token_position", "class_specific")

    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        text_depth = 1 + count(shapes, "text_encoder.")
        return {**read_context(shapes), "text_depth": text_depth, **read_vision_tokens(shapes)}

    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        deeper = {
            f"text_encoder.transformer.resblocks.{layer}.VPT_shallow": Place("clip_prompt_deep_context", row=layer - 1)
            for layer in range(1, config.text_depth)
        }
        return {"ctx": Place("clip_prompt_context")} | deeper | vision_places(config)


class IVLP(CLIPDesign, name="ivlp"):
    """Independent prompts as MaPLe's authors run them: 2 + 2 tokens in all 12 layers of both towers.

    Their text is "a photo of a {}.", whose first words are learned: with 2 tokens the template is "of a {}.".
    """

    title = "IVLP"
    reference = Reference(
        "Khattak et al., “MaPLe: Multi-modal Prompt Learning”, CVPR 2023", "https://arxiv.org/abs/2210.03117"
    )
    fields = {
        "num_text_tokens": 2,
        "text_init": "a photo",
        "text_depth": 12,
        "num_vision_tokens": 2,
        "vision_depth": 12,
    }
    fixed = ["class_specific", "conditional", "coupled"]
    words = "a photo of a"
    checkpoint = IVLPCheckpoint()

    def problem(self, config: CLIPPromptConfig) -> str | None:
        if not config.num_text_tokens or not config.num_vision_tokens:
            return (
                "has tokens in both towers, but num_text_tokens and num_vision_tokens are "
                f"{config.num_text_tokens} and {config.num_vision_tokens}"
            )
        return super().problem(config)
