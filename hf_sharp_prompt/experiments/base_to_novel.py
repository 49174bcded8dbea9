"""Base-to-novel generalisation: learn prompts from a few images of half of the classes, measure on both halves.

Without arguments everything is on board: zero-shot CLIP, CoOp, CoOp + SAM and GCSCoOp on a task of the embedded demo,
three seeds each. With a checkpoint and a data set of yours it is the papers' experiment:

    accelerate launch -m hf_sharp_prompt base2novel
    accelerate launch -m hf_sharp_prompt base2novel --model openai/clip-vit-base-patch16 --dataset my/folder/of/images

A recipe sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the command
line overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import harmonic_mean, mean
from typing import Any

import datasets

from ..data import base_to_novel, few_shot
from ..plots import plot_accuracy_by_epoch
from ..printable import printable
from ..training.arguments import SharpPromptTrainingArguments
from .arguments import RECIPES_HELP, CLIPPromptArguments, make_defaults
from .clip import CLIPArguments, CLIPExperiment, CLIPTrainer
from .images import class_names
from .methods import ArgumentGroups, Method
from .protocol import run_protocol
from .recipes import OWN, RECIPES
from .results import Result, Results, succeeded


HALVES = ("base", "novel")
MANUAL = __doc__


@dataclass
class BaseToNovelArguments(CLIPArguments):
    """The arguments of base-to-novel experiments."""

    recipes: list[str] = field(
        default_factory=lambda: ["coop", "coop_sam", "gcscoop"], metadata={"help": RECIPES_HELP}
    )


def argument_groups() -> ArgumentGroups[BaseToNovelArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": "runs/base2novel", "eval_strategy": "epoch"}
    return ArgumentGroups(BaseToNovelArguments, CLIPPromptArguments, defaults, RECIPES)


class BaseToNovel(CLIPExperiment):
    """Learns from a few images of the base classes, and measures base and novel images among their own classes.

    Results are the accuracies `base` and `novel` and their harmonic mean `hm`, the accuracies by epoch in `history`,
    and the `cosines` between gradient and perturbed gradient.
    """

    columns = {"base": "base", "novel": "novel", "HM": "hm"}
    figure = "accuracy_by_epoch.png"

    @cached_property
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        return {half: splits[self.args.eval_split] for half, splits in zip(HALVES, base_to_novel(self.splits))}

    def draw_images(self, seed: int) -> datasets.Dataset:
        base, _ = base_to_novel(few_shot(self.splits, self.args.shots, seed))
        return base["train"]

    def training_of(self, method: Method[CLIPPromptArguments], seed: int) -> SharpPromptTrainingArguments:
        training = super().training_of(method, seed)
        training.objectives = self.with_novel_class_names(training.objectives)
        return training

    def with_novel_class_names(self, objectives: Any) -> Any:
        """Objectives with the data set's novel class names where they say `novel_class_names: own`."""
        if not isinstance(objectives, dict):
            return objectives
        novel = class_names(self.evaluation_pixels["novel"])
        return {
            name: {**values, "novel_class_names": novel} if (values or {}).get("novel_class_names") == OWN else values
            for name, values in objectives.items()
        }

    def measure(self, trainer: CLIPTrainer) -> Result:
        """Measure both halves at the end; by epoch they are known as far as they were measured on the way."""
        measured_at = [entry["step"] for entry in trainer.state.log_history if "eval_base_accuracy" in entry]
        if measured_at[-1:] != [trainer.state.global_step]:
            trainer.evaluate()
        log = trainer.state.log_history
        history = {half: [entry[key] for entry in log if (key := f"eval_{half}_accuracy") in entry] for half in HALVES}
        return with_harmonic_mean({half: by_epoch[-1] for half, by_epoch in history.items()}) | {
            "history": history,
            "cosines": [entry["cosine"] for entry in log if "cosine" in entry],
        }

    def draw(self, results: Results) -> None:
        """Draw the accuracies by epoch."""
        plot_accuracy_by_epoch(
            {name: histories for name, runs in results.items() if (histories := histories_of(runs))},
            self.directory / self.figure,
            title=printable(f"{self.name}, {self.args.shots} shots"),
        )


def with_harmonic_mean(accuracies: dict[str, float]) -> Result:
    return accuracies | {"hm": harmonic_mean(accuracies.values())}


def histories_of(runs: list[Result]) -> list[dict[str, list[float]]]:
    """Per seed, the accuracies by epoch; those at the end alone where not all were measured as often."""
    histories = [run["history"] for run in succeeded(runs)]
    if len({len(history["base"]) for history in histories}) > 1:
        return [{half: history[half][-1:] for half in HALVES} for history in histories]
    return histories


def average(results: list[Results]) -> Results:
    """Per method and seed, the mean over data sets."""
    return {
        name: [
            with_harmonic_mean({half: mean(run[half] for run in runs) for half in HALVES})
            | {"seconds": mean(run.get("seconds", 0) for run in runs)}
            for runs in in_all(results, name)
        ]
        for name in results[0]
    }


def in_all(results: list[Results], method: str) -> list[tuple[Result, ...]]:
    """The runs of a method by seed, each on all data sets; what failed on one is left out."""
    by_seed = [{run.get("seed"): run for run in succeeded(each.get(method, []))} for each in results]
    return [tuple(each[seed] for each in by_seed) for seed in by_seed[0] if all(seed in each for each in by_seed)]


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), BaseToNovel, MANUAL, argv, average)
