"""VPT-shallow: tokens at the image tower's input alone."""

from .vpt import VPT


class VPTShallow(VPT, name="vpt_shallow"):
    """VPT-shallow on CLIP: 8 tokens at the image tower's input, texts as they are."""

    title = "VPT-shallow"
    fields = {"num_text_tokens": 0, "num_vision_tokens": 8}
    fixed = ["num_text_tokens", "vision_depth"]
