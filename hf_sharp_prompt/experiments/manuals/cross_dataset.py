"""Cross-dataset transfer: learn prompts of all classes of one data set, and measure them on others as they are.

Each of `--targets` is classified among its own class names; zero-shot CLIP beside it has its own hand-written prompt.
Without arguments everything is on board: CoOp and GCSCoOp learn coloured shapes, and are measured on the embedded
demo's tasks of other classes. With a checkpoint and data sets of yours it is the papers' experiment:

    accelerate launch -m hf_sharp_prompt cross_dataset
    accelerate launch -m hf_sharp_prompt cross_dataset --model openai/clip-vit-base-patch16 --dataset imagenet \\
        --targets caltech101 oxford_pets --num_train_epochs 50

A recipe sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the command
line overrides every recipe's; on the demo a half of num_train_epochs is trained, which is as many steps as in
base-to-novel experiments. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .manual import Manual, Option
from .shared import CLIP


MANUAL = Manual(
    __doc__,
    {
        **CLIP,
        "recipes": CLIP["recipes"].with_default(["coop", "gcscoop"]),
        "output_dir": CLIP["output_dir"].with_default("runs/cross_dataset"),
        "targets": Option(
            "The data sets to measure on, each like --dataset.",
            ["texture_shape_fog", "texture_shape_print", "texture_colour_night", "texture_colour_emboss"],
        ),
    },
)
