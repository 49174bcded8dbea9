"""RSAM-PT (GNM-PT): VPT-deep whose head sees CLS mixed with the tokens' outputs."""

from ...prompt_design import Reference
from .design import ViTDesign


class RSAMPT(ViTDesign, name="rsam_pt"):
    """RSAM-PT (GNM-PT): 10 tokens in every layer, CLS mixed with their outputs, a cosine head of scale 25.

    The dropout of 0.1 before the head and the tokens' truncated normal are its released code's.
    """

    title = "RSAM-PT"
    reference = Reference(
        "Li et al., “Improving Visual Prompt Tuning by Gaussian Neighborhood Minimization for Long-Tailed Visual "
        "Recognition”, NeurIPS 2024",
        "https://arxiv.org/abs/2410.21042",
    )
    fields = {
        "num_tokens": 10,
        "depth": None,
        "init": "trunc_normal",
        "pooling": "cls_prompt",
        "head": "cosine",
        "head_dropout": 0.1,
        "scale": 25.0,
    }
    fixed = ["pooling", "head"]
