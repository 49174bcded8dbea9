"""VPT-shallow: tokens at the input."""

from ...prompt_design import Reference
from .design import ViTDesign


class VPTShallow(ViTDesign, name="vpt_shallow"):
    """VPT-shallow: 50 tokens at the input, which travel through all layers, and a linear head."""

    title = "VPT-shallow"
    reference = Reference("Jia et al., “Visual Prompt Tuning”, ECCV 2022", "https://arxiv.org/abs/2203.12119")
    fields = {"num_tokens": 50, "depth": 1}
    fixed = ["depth"]
