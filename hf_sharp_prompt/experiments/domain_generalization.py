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

from collections.abc import Sequence
from dataclasses import dataclass, field

import datasets
import numpy as np

from .. import demo
from ..data import labels_of, only_classes
from ..hyperparameters import nearest
from .arguments import CLIPPromptArguments, describe_dataset, make_defaults
from .cross_dataset import CrossDataset, CrossDatasetArguments
from .methods import ArgumentGroups
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES


MANUAL = __doc__
VARIANTS = ("colour_shape_rain", "colour_shape_poster", "colour_shape_emboss")


@dataclass
class DomainGeneralizationArguments(CrossDatasetArguments):
    """The arguments of domain generalisation."""

    targets: list[str] = field(
        default_factory=lambda: list(VARIANTS),
        metadata={
            "help": "The variants to measure on, whose classes are among those of --dataset. "
            f"{describe_dataset(demo.TASKS)} Default: the demo's of the same classes."
        },
    )


def argument_groups() -> ArgumentGroups[DomainGeneralizationArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": "runs/domain_generalization", "eval_strategy": "no"}
    return ArgumentGroups(DomainGeneralizationArguments, CLIPPromptArguments, defaults, RECIPES)


class DomainGeneralization(CrossDataset):
    """Learns all classes of one data set, and measures on it and on its variants, among the classes that each has."""

    protocol = "domain_generalization"

    def choose_images(self, name: str, splits: datasets.DatasetDict) -> datasets.Dataset:
        """A variant's images, labelled by the classes that it has images of.

        Raises:
            ValueError: The source does not have a class of the variant.
        """
        images = splits[self.args.eval_split]
        present = np.unique(labels_of(images)).tolist()
        names, known = images.features["label"].names, self.splits["train"].features["label"].names
        if unknown := [names[label] for label in present if names[label] not in known]:
            raise ValueError(
                f"{name} has images of {unknown[0]!r}, which is no class of {self.name}{nearest(unknown[0], known)} "
                "A variant's classes are the source's or some of them; for other classes there is cross_dataset."
            )
        return only_classes(datasets.DatasetDict(train=images), present)["train"]


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), one_per_data_set(DomainGeneralization), MANUAL, argv)
