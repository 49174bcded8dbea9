"""VPT-deep: fresh tokens in every layer."""

from __future__ import annotations

from ...prompt_design import Reference
from ..config import ViTPromptConfig
from .design import ViTDesign


class VPTDeep(ViTDesign, name="vpt_deep"):
    """VPT-deep: 50 tokens in every layer and a linear head. `depth` may leave out the last layers."""

    title = "VPT-deep"
    reference = Reference("Jia et al., “Visual Prompt Tuning”, ECCV 2022", "https://arxiv.org/abs/2203.12119")
    fields = {"num_tokens": 50, "depth": None}

    def problem(self, config: ViTPromptConfig) -> str | None:
        if config.depth == 1:
            return "has tokens in several layers, but depth is 1"
        return super().problem(config)
