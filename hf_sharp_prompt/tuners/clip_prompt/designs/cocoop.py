"""CoCoOp: a context that is shifted by what a meta-net makes of the image."""

from __future__ import annotations

from typing import Any

from ...prompt_design import Reference
from ..config import CLIPPromptConfig
from .checkpoint import Checkpoint, Place, Shapes, read_context, weight_and_bias
from .design import CLIPDesign


class CoCoOpCheckpoint(Checkpoint):
    """The prompt learner of CoOp's repository: `ctx` and the meta-net."""

    requires = "ctx"
    is_whole_model = False
    has_no_place_for = ("class_token_position", "class_specific")

    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        return {**read_context(shapes), "conditional": True}

    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        meta_net = weight_and_bias("meta_net.linear1", "meta_net.linear2")
        return {"ctx": Place("clip_prompt_context")} | {name: Place(f"clip_prompt_{name}") for name in meta_net}


class CoCoOp(CLIPDesign, name="cocoop"):
    """CoCoOp: CoOp's 4 context tokens, shifted by what a meta-net makes of the image."""

    title = "CoCoOp"
    reference = Reference(
        "Zhou et al., “Conditional Prompt Learning for Vision-Language Models”, CVPR 2022",
        "https://arxiv.org/abs/2203.05557",
    )
    fields = {"num_text_tokens": 4, "text_init": "a photo of a", "conditional": True}
    fixed = ["text_depth", "conditional", "num_vision_tokens", "coupled"]
    checkpoint = CoCoOpCheckpoint()
