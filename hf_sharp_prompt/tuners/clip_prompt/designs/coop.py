"""CoOp: context tokens beside the class names."""

from __future__ import annotations

from typing import Any

from ...prompt_design import Reference
from ..config import CLIPPromptConfig
from .checkpoint import Checkpoint, Place, Shapes, read_context
from .design import CLIPDesign


class CoOpCheckpoint(Checkpoint):
    """The prompt learner of CoOp's repository, and of KgCoOp's and ProGrad's: `ctx`."""

    requires = "ctx"
    is_whole_model = False

    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        return read_context(shapes)

    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        return {"ctx": Place("clip_prompt_context")}


class CoOp(CLIPDesign, name="coop"):
    """CoOp as in base-to-novel experiments: 4 context tokens that start from "a photo of a".

    The context may have any length, stand around or behind the name, or be one for each class.
    """

    title = "CoOp"
    reference = Reference(
        "Zhou et al., “Learning to Prompt for Vision-Language Models”, IJCV 2022", "https://arxiv.org/abs/2109.01134"
    )
    fields = {"num_text_tokens": 4, "text_init": "a photo of a"}
    fixed = ["text_depth", "conditional", "num_vision_tokens", "coupled"]
    checkpoint = CoOpCheckpoint()
