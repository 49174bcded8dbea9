"""The base-to-novel protocol: learn from half of the classes, measure on both halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets

from ..data import base_to_novel
from .arguments import CLIPPromptArguments, make_defaults
from .averages import HALVES, with_harmonic_mean
from .clip import CLIPArguments, CLIPExperiment, CLIPTrainer
from .figures import draw_by_epoch
from .images import class_names
from .manuals.base2novel import MANUAL
from .manuals.manual import option_field
from .methods import ArgumentGroups
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES
from .results import Result, Results


@dataclass
class BaseToNovelArguments(CLIPArguments):
    """The arguments of base-to-novel experiments."""

    recipes: list[str] = option_field(MANUAL["recipes"])


def argument_groups() -> ArgumentGroups[BaseToNovelArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": MANUAL["output_dir"].default, "eval_strategy": "epoch"}
    return ArgumentGroups(BaseToNovelArguments, CLIPPromptArguments, defaults, RECIPES)


class BaseToNovel(CLIPExperiment):
    """Learns from a few images of the base classes, and measures base and novel images among their own classes.

    Results are the accuracies `base` and `novel`, their harmonic mean `hm`, the expected calibration errors `base_ece`
    and `novel_ece`, the accuracies by epoch in `history`, and the `cosines` between gradient and perturbed gradient.
    """

    protocol = "base2novel"
    columns = {"base": "base", "novel": "novel", "HM": "hm", "base ECE": "base_ece", "novel ECE": "novel_ece"}
    figure = "accuracy_by_epoch.png"

    @cached_property
    def halves(self) -> dict[str, datasets.DatasetDict]:
        """The splits of the base and of the novel classes."""
        return dict(zip(HALVES, base_to_novel(self.splits)))

    @cached_property
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        return {half: splits[self.args.eval_split] for half, splits in self.halves.items()}

    @property
    def novel_class_names(self) -> list[str]:
        return class_names(self.evaluation_pixels["novel"])

    def draw_images(self, seed: int) -> datasets.Dataset:
        base, _ = base_to_novel(self.draw_shots(seed))
        return base["train"]

    def measure(self, trainer: CLIPTrainer) -> Result:
        """Measure both halves at the end; by epoch they are known as far as they were measured on the way."""
        measured_at = [entry["step"] for entry in trainer.state.log_history if "eval_base_ece" in entry]
        if measured_at[-1:] != [trainer.state.global_step]:
            trainer.evaluate()
        log = trainer.state.log_history
        history = {half: [entry[key] for entry in log if (key := f"eval_{half}_accuracy") in entry] for half in HALVES}
        return {
            **with_harmonic_mean({half: by_epoch[-1] for half, by_epoch in history.items()}),
            **{f"{half}_ece": last(log, f"eval_{half}_ece") for half in HALVES},
            "history": history,
            "cosines": [entry["cosine"] for entry in log if "cosine" in entry],
        }

    def draw(self, results: Results) -> None:
        """Draw the accuracies by epoch."""
        draw_by_epoch(results, self.directory / self.figure, f"{self.name}, {self.args.shots} shots")


def last(log: Sequence[dict[str, Any]], key: str) -> float:
    """The value that was logged last."""
    return [entry[key] for entry in log if key in entry][-1]


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), one_per_data_set(BaseToNovel), MANUAL, argv)
