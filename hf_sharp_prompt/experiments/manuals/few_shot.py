"""Few-shot learning: learn prompts of all classes from 1, 2, 4, 8, 16 and all images of each, and draw the curve.

Without arguments everything is on board: CoOp and GCSCoOp on a task of the embedded demo, three seeds each, with
zero-shot CLIP beside them. With a checkpoint and a data set of yours it is CoOp's experiment, whose epochs go by
the number of shots:

    accelerate launch -m hf_sharp_prompt few_shot
    accelerate launch -m hf_sharp_prompt few_shot --model openai/clip-vit-base-patch16 --dataset oxford_pets \\
        --recipes coop --shots 1 2 4 8 16 --epochs_by_shots 50 100 100 200 200

A recipe sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the command
line overrides every recipe's. Interrupted, the same command continues where it stopped; other numbers of shots, seeds
and methods are added to the same curve.
"""

from __future__ import annotations

from .manual import Manual, Option
from .shared import ALL, CLIP


MANUAL = Manual(
    __doc__,
    {
        **CLIP,
        "recipes": CLIP["recipes"].with_default(["coop", "gcscoop"]),
        "output_dir": CLIP["output_dir"].with_default("runs/few_shot"),
        "shots": Option(
            f"Numbers of training images per class, one or more; '{ALL}' for all that there are.",
            ["1", "2", "4", "8", "16", ALL],
        ),
        "epochs_by_shots": Option(
            "For each of --shots, the number of epochs: CoOp's are 50 100 100 200 200 for 1 2 4 8 16 shots. Default: "
            "num_train_epochs for all; on the demo 1/2, 1/4, 3/20 and 1/10 of them for 4, 8, 16 and all shots, so "
            "that the curve takes minutes.",
            None,
            {"nargs": "+"},
        ),
    },
)
