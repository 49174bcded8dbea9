"""The cross-dataset protocol: learn all classes of one data set, measure on others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import datasets
from accelerate import PartialState

from ..training.arguments import SharpPromptTrainingArguments
from .arguments import CLIPPromptArguments, check_distinct, make_defaults, name_of_data
from .clip import CLIPArguments, CLIPExperiment, CLIPTrainer, find_template, load_to_measure
from .figures import draw_by_group
from .images import fingerprint_on_main
from .manuals.cross_dataset import MANUAL
from .manuals.manual import option_field
from .methods import ArgumentGroups, Method
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES
from .results import Result, Results


SHARE_ON_DEMO = 0.5
"""The share of a recipe's epochs that is trained on the demo: all classes have twice the images of the base classes,
so that this is as many steps as in base-to-novel experiments."""
SOURCE, MEAN = "source", "mean_of_targets"
"""The keys of a result: the accuracy on the data set that is learned, and the mean accuracy on the targets."""


@dataclass
class CrossDatasetArguments(CLIPArguments):
    """The arguments of experiments that learn on one data set and measure on others."""

    recipes: list[str] = option_field(MANUAL["recipes"])
    targets: list[str] = option_field(MANUAL["targets"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct([name_of_data(each) for each in self.targets], "--targets")
        if learned := [each for each in self.targets if name_of_data(each) in map(name_of_data, self.datasets)]:
            raise ValueError(
                f"--targets has {learned[0]}, which is learned from; measure on other data sets than --dataset."
            )
        if not self.on_demo and self.targets == list(type(self)().targets):
            raise ValueError("--targets names the data sets to measure on; give at least one.")


def argument_groups() -> ArgumentGroups[CrossDatasetArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": MANUAL["output_dir"].default, "eval_strategy": "no"}
    return ArgumentGroups(CrossDatasetArguments, CLIPPromptArguments, defaults, RECIPES)


class CrossDataset(CLIPExperiment):
    """Learns all classes of one data set, and measures on it and on the targets, each among its own class names.

    Results are the accuracies `source`, `target NAME` of each target, and `mean_of_targets`.

    Attributes:
        targets: The images of the targets, by name.
    """

    protocol = "cross_dataset"
    figure = "accuracy_by_data_set.png"

    def __init__(self, dataset: str, args: CrossDatasetArguments, training: SharpPromptTrainingArguments) -> None:
        super().__init__(dataset, args, training)
        self.targets: dict[str, datasets.Dataset] = {}
        self._templates = {self.name: self.images.template}
        with PartialState().main_process_first():
            for target in args.targets:
                name = name_of_data(target)
                splits = load_to_measure(target, args, **args.loading_of_others, skipped=self.skipped)
                self.targets[name] = self.choose_images(name, splits)
                self._templates[name] = find_template(target, args)
        keys = {name: key_of(name) for name in self.targets}
        self.columns = {self.name: SOURCE, **keys, "mean of targets": MEAN}

    def choose_images(self, name: str, splits: datasets.DatasetDict) -> datasets.Dataset:
        """The images of a target to measure on."""
        return splits[self.args.eval_split]

    @property
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        return {self.name: self.splits[self.args.eval_split], **self.targets}

    @property
    def templates(self) -> dict[str, str]:
        return self._templates

    def settings(self) -> dict[str, Any]:
        targets = {
            name: fingerprint_on_main(datasets.DatasetDict({self.args.eval_split: images}))
            for name, images in self.targets.items()
        }
        return {**super().settings(), "targets": targets}

    def training_of(self, method: Method[CLIPPromptArguments], seed: int) -> SharpPromptTrainingArguments:
        training = super().training_of(method, seed)
        share = SHARE_ON_DEMO if self.args.on_demo and not self.args.smoke else 1
        return dataclasses.replace(training, num_train_epochs=max(1, share * training.num_train_epochs))

    def measure(self, trainer: CLIPTrainer) -> Result:
        measured: dict[str, Any] = trainer.evaluate()
        on_targets = {key_of(name): measured[f"eval_{name}_accuracy"] for name in self.targets}
        return {SOURCE: measured[f"eval_{self.name}_accuracy"], **on_targets, MEAN: mean(on_targets.values())}

    def draw(self, results: Results) -> None:
        """Draw the accuracies by data set."""
        draw_by_group(results, self.columns, self.directory / self.figure, self.name)


def key_of(target: str) -> str:
    """The key of the accuracy on a target."""
    return f"target {target}"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), one_per_data_set(CrossDataset), MANUAL, argv)
