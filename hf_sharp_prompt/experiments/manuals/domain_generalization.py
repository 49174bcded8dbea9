"""Domain generalisation: learn prompts of all classes of one data set, and measure them on variants of its images.

A variant has the source's classes, or some of them, as ImageNet-A and ImageNet-R do; it is classified among those that
it has images of. Without arguments everything is on board: CoOp and GCSCoOp learn coloured shapes under a
green light, and are measured on the same classes in the rain, on posters and as reliefs. With a checkpoint and data
sets of yours it is the papers' experiment:

    accelerate launch -m hf_sharp_prompt domain_generalization
    accelerate launch -m hf_sharp_prompt domain_generalization --model openai/clip-vit-base-patch16 \\
        --dataset imagenet --targets imagenetv2 imagenet_sketch imagenet_a imagenet_r --num_train_epochs 50

A recipe sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the command
line overrides every recipe's; on the demo a half of num_train_epochs is trained, which is as many steps as in
base-to-novel experiments. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .cross_dataset import MANUAL as CROSS_DATASET
from .manual import Manual, Option


MANUAL = Manual(
    __doc__,
    {
        **CROSS_DATASET.options,
        "output_dir": CROSS_DATASET["output_dir"].with_default("runs/domain_generalization"),
        "targets": Option(
            "The variants to measure on, each like --dataset, whose classes are among those of --dataset.",
            ["colour_shape_rain", "colour_shape_poster", "colour_shape_emboss"],
        ),
    },
)
