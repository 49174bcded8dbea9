"""Base-to-novel generalisation: learn prompts from a few images of half of the classes, measure on both halves.

Without arguments everything is on board: zero-shot CLIP, CoOp, CoOp + SAM and GCSCoOp on a task of the embedded demo,
three seeds each. With a checkpoint and a data set of yours it is the papers' experiment:

    accelerate launch -m hf_sharp_prompt base2novel
    accelerate launch -m hf_sharp_prompt base2novel --model openai/clip-vit-base-patch16 --dataset my/folder/of/images

A recipe sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the command
line overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .manual import Manual
from .shared import CLIP


MANUAL = Manual(
    __doc__,
    {
        **CLIP,
        "recipes": CLIP["recipes"].with_default(["coop", "coop_sam", "gcscoop"]),
        "output_dir": CLIP["output_dir"].with_default("runs/base2novel"),
    },
)
