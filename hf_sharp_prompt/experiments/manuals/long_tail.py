r"""Long-tailed recognition: learn prompts in a vision transformer from classes of which most are rare.

Without arguments everything is on board: a tiny ViT and a task whose most frequent class has 100 times the images of
its rarest, three seeds each of VPT-deep, VPT + SAM, VPT + ImbSAM and RSAM-PT. With a checkpoint and a data set of
yours it is the papers' experiment; the second command's is CIFAR100-LT:

    accelerate launch -m hf_sharp_prompt long_tail
    accelerate launch -m hf_sharp_prompt long_tail --model google/vit-base-patch16-224-in21k --dataset cifar100 \
        --label_column fine_label --preprocessing cifar

A recipe sets a method's prompt, loss and training arguments; `sharp-prompt recipes` lists those of `long_tail/`. An
argument on the command line overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .manual import Manual, Option
from .shared import SHARED, UNFAMILIAR_TASKS, dataset_option


AUTO = "auto"
PROFILES = [AUTO, "exponential", "pareto", "none"]

IMBALANCE_FACTOR = 100.0

MAX_PER_CLASS_ON_DEMO = 100
"""Training images of the demo's most frequent class. With the default imbalance, the rarest class then has one."""

MANUAL = Manual(
    __doc__,
    {
        **SHARED,
        "model": Option(
            "A ViT, DeiT, BEiT or DINOv2 checkpoint: a Hub id or a directory. Default: the embedded demo's."
        ),
        "dataset": dataset_option(["long_tail_night", *UNFAMILIAR_TASKS]),
        "recipes": SHARED["recipes"].with_default(["ce", "vpt_sam", "vpt_imbsam", "rsam_pt"]),
        "output_dir": SHARED["output_dir"].with_default("runs/long_tail"),
        "profile": Option(
            "How the classes' training images fall off, in the order of the labels: exponential as in CIFAR100-LT, "
            "pareto as in ImageNet-LT, none for the data set's own counts, as for iNaturalist 2018 and Places-LT, or "
            "auto: exponential where all classes have the same number of training images, as in CIFAR-100 and the "
            "demo, and none where they differ.",
            AUTO,
            {"choices": PROFILES},
        ),
        "imbalance_factor": Option(
            "Training images of the most frequent class over those of the rarest, with an exponential or pareto "
            f"profile. Default: {IMBALANCE_FACTOR:g}."
        ),
        "max_per_class": Option(
            "Training images of the most frequent class. Default: as many as every class has, or with profile none as "
            f"there are; on the demo {MAX_PER_CLASS_ON_DEMO}."
        ),
        "group_sizes": Option(
            "How many classes are many-, medium- and few-shot, in the order of the labels. Default: with an "
            "exponential profile 36, 35 and 29 percent, as in CIFAR100-LT; else by training images: more than 100 are "
            "many, fewer than 20 few.",
            None,
            {"nargs": "+"},
        ),
        "preprocessing": Option(
            "How images are prepared: crop for a random resized crop and a flip in training; cifar as RSAM-PT's "
            "authors do with CIFAR: a padded crop, flip, AutoAugment and Cutout at 32 pixels in training, the centre "
            "7/8 in a test, and CIFAR's mean and deviation.",
            "crop",
            {"choices": ["crop", "cifar"]},
        ),
    },
)
