"""The protocol of domain generalisation: learn on one data set, measure on variants of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np

from ..data import labels_of, only_classes
from ..hyperparameters import nearest
from .arguments import CLIPPromptArguments, make_defaults
from .cross_dataset import CrossDataset, CrossDatasetArguments
from .manuals.domain_generalization import MANUAL
from .manuals.manual import option_field
from .methods import ArgumentGroups
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES


@dataclass
class DomainGeneralizationArguments(CrossDatasetArguments):
    """The arguments of domain generalisation."""

    targets: list[str] = option_field(MANUAL["targets"])


def argument_groups() -> ArgumentGroups[DomainGeneralizationArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": MANUAL["output_dir"].default, "eval_strategy": "no"}
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
