"""MaPLe: deep text prompts, and vision prompts that are their linear projections."""

from __future__ import annotations

from typing import Any

from ...prompt_design import Reference
from ..config import CLIPPromptConfig
from .checkpoint import Checkpoint, Place, Shapes, count, read_context, weight_and_bias
from .design import CLIPDesign


class MaPLeCheckpoint(Checkpoint):
    """The whole model of MaPLe's repository: the context of each layer, and the linear map to the image tower's."""

    requires = "ctx"
    is_whole_model = True
    has_no_place_for = ("class_token_position", "class_specific")

    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        context, depth = read_context(shapes), 1 + count(shapes, "compound_prompts_text.")
        vision = {"num_vision_tokens": context["num_text_tokens"], "vision_depth": depth}
        return {**context, "text_depth": depth, **vision, "coupled": True}

    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        found = {"ctx": Place("clip_prompt_context")}
        for layer in range(1, config.text_depth):
            found[f"compound_prompts_text.{layer - 1}"] = Place("clip_prompt_deep_context", row=layer - 1)
        for layer in range(config.text_depth):
            linear = f"compound_prompt_projections.{layer - 1}" if layer else "proj"
            here, there = weight_and_bias(linear), weight_and_bias(f"clip_prompt_coupling.{layer}")
            found |= {name: Place(place) for name, place in zip(here, there, strict=True)}
        return found


class MaPLe(CLIPDesign, name="maple"):
    """MaPLe: 2 text tokens in the first 9 layers, and vision tokens that are their projections.

    Its text is "a photo of a {}.", whose first words are learned: with 2 tokens the template is "of a {}.".
    """

    title = "MaPLe"
    reference = Reference(
        "Khattak et al., “MaPLe: Multi-modal Prompt Learning”, CVPR 2023", "https://arxiv.org/abs/2210.03117"
    )
    fields = {
        "num_text_tokens": 2,
        "text_init": "a photo",
        "text_depth": 9,
        "num_vision_tokens": 2,
        "vision_depth": 9,
        "coupled": True,
    }
    fixed = ["coupled"]
    words = "a photo of a"
    checkpoint = MaPLeCheckpoint()
