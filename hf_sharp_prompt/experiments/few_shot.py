"""The few-shot protocol: learn from few images of all classes, and draw the curve over their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import datasets

from ..training.arguments import SharpPromptTrainingArguments
from .arguments import CLIPPromptArguments, check_at_least, check_shots, make_defaults
from .clip import CLIPArguments, CLIPDataArguments, CLIPExperiment, CLIPImages, CLIPTrainer
from .figures import draw_by_shots
from .manuals.few_shot import MANUAL
from .manuals.manual import option_field
from .manuals.shared import ALL
from .methods import ArgumentGroups, Method
from .protocol import run_protocol
from .recipes import RECIPES
from .record import in_words
from .results import Result, Results
from .summary import curve_title, curves_of, gather


SHARES_ON_DEMO = {"4": 0.5, "8": 0.25, "16": 0.15, ALL: 0.1}
"""By number of shots, the share of a recipe's epochs that is trained on the demo; otherwise all."""
SMOKE_SHOTS = ("1", ALL)


@dataclass
class FewShotArguments(CLIPDataArguments):
    """The arguments of few-shot experiments."""

    recipes: list[str] = option_field(MANUAL["recipes"])
    shots: list[str] = option_field(MANUAL["shots"])
    epochs_by_shots: list[int] | None = option_field(MANUAL["epochs_by_shots"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shots(self.shots)
        if self.epochs_by_shots is None:
            return
        if len(self.epochs_by_shots) != len(self.shots):
            raise ValueError(
                f"--epochs_by_shots has {len(self.epochs_by_shots)} numbers, but --shots {len(self.shots)}; give one "
                "for each."
            )
        check_at_least(1, epochs_by_shots=min(self.epochs_by_shots))

    def shrink(self) -> None:
        super().shrink()
        self.shots, self.epochs_by_shots = list(SMOKE_SHOTS), None

    def with_shots(self, shots: str) -> CLIPArguments:
        """The arguments of one number of shots."""
        common = {each.name: getattr(self, each.name) for each in dataclasses.fields(CLIPDataArguments)}
        return CLIPArguments(**common, shots=shots)


def argument_groups() -> ArgumentGroups[FewShotArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": MANUAL["output_dir"].default, "eval_strategy": "no"}
    return ArgumentGroups(FewShotArguments, CLIPPromptArguments, defaults, RECIPES)


class FewShot(CLIPExperiment):
    """Learns from a few images of each class, and measures all classes.

    Results are the `accuracy` and the expected calibration error `ece`.

    Args:
        dataset, args, training, images: As of [`CLIPExperiment`].
        epochs: The number of epochs, in the place of the recipes'.
    """

    protocol = "few_shot"
    columns = {"accuracy": "accuracy", "ECE": "ece"}
    figure = "accuracy_by_shots.png"

    def __init__(
        self,
        dataset: str,
        args: CLIPArguments,
        training: SharpPromptTrainingArguments,
        images: CLIPImages | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(dataset, args, training, images)
        self.epochs = epochs
        self.directory /= f"shots{args.shots}"

    @property
    def label(self) -> str:
        return ", ".join([self.name, *in_words(self.setting())])

    @property
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        return {self.args.eval_split: self.splits[self.args.eval_split]}

    def training_of(self, method: Method[CLIPPromptArguments], seed: int) -> SharpPromptTrainingArguments:
        training = super().training_of(method, seed)
        share = SHARES_ON_DEMO.get(self.args.shots, 1) if self.args.on_demo and not self.args.smoke else 1
        epochs = self.epochs or max(1, round(share * training.num_train_epochs, 3))
        return dataclasses.replace(training, num_train_epochs=epochs)

    def measure(self, trainer: CLIPTrainer) -> Result:
        measured: dict[str, Any] = trainer.evaluate()
        return {key: measured[f"eval_{self.args.eval_split}_{key}"] for key in self.columns.values()}

    def draw(self, results: Results) -> None:
        """Draw the curve over all numbers of shots that the data set's directory has."""
        for curve in curves_of(gather([self.directory.parent])):
            by_shots = {shots: group.results for shots, group in curve.items()}
            draw_by_shots(by_shots, self.directory.parent / self.figure, curve_title(curve))


def make_experiments(args: FewShotArguments, training: SharpPromptTrainingArguments) -> list[FewShot]:
    """An experiment for each data set and number of shots; those of one data set share its images."""
    experiments = []
    for dataset in args.datasets:
        images = CLIPImages(dataset, args, training.dataloader_num_workers)
        for shots, epochs in zip_longest(args.shots, args.epochs_by_shots or ()):
            experiments.append(FewShot(dataset, args.with_shots(shots), training, images, epochs))
    return experiments


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), make_experiments, MANUAL, argv)
