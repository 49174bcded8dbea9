"""Prompts learned from all classes of one data set, to be used: what `sharp-prompt train` does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import datasets

from .. import demo
from ..data import load_image_dataset
from ..training.arguments import SharpPromptTrainingArguments
from .arguments import CLIPPromptArguments, ExperimentArguments, ViTPromptArguments, make_defaults
from .clip import CLIPArguments, CLIPExperiment, CLIPImages, CLIPTrainer
from .long_tail import LongTail, LongTailArguments, LongTailTrainer
from .manuals.manual import option_field
from .manuals.train import MANUAL
from .methods import ArgumentGroups
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES
from .results import Result, Results, succeeded
from .smoke import with_few_images
from .tables import COSTS


A = TypeVar("A", bound=ExperimentArguments)
P = TypeVar("P")

VIT_RECIPES = "long_tail/"
"""How the names of recipes begin that are for a vision transformer."""

DEFAULTS = {"output_dir": MANUAL["output_dir"].default, "eval_strategy": "no"}
"""Defaults of training arguments."""


@dataclass
class TrainArguments(CLIPArguments):
    """The arguments for training prompts of CLIP."""

    model: str = option_field(MANUAL["model"], str(demo.CLIP_PATH))
    dataset: list[str] = option_field(MANUAL["dataset"])
    recipes: list[str] = option_field(MANUAL["recipes"])
    seeds: list[int] = option_field(MANUAL["seeds"])
    eval_split: str = option_field(MANUAL["eval_split"])
    shots: str = option_field(MANUAL["shots"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_is_one(self)


@dataclass
class ViTTrainArguments(LongTailArguments):
    """The arguments for training prompts of a vision transformer: the classes have the images that they have."""

    model: str = option_field(MANUAL["model"], str(demo.VIT_PATH))
    dataset: list[str] = option_field(MANUAL["dataset"])
    recipes: list[str] = option_field(MANUAL["recipes"])
    seeds: list[int] = option_field(MANUAL["seeds"])
    eval_split: str = option_field(MANUAL["eval_split"])
    profile: str = field(
        default="none",
        metadata={
            "help": "Whether images are left out so that few classes have many: none for all images, or exponential "
            "or pareto.",
            "choices": ["none", "exponential", "pareto"],
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_is_one(self)
        if self.preprocessing != "crop":
            raise ValueError(
                f"--preprocessing {self.preprocessing} is for experiments: the adapter is used with the base model's "
                "own preprocessing, so it has to be trained with that. Drop it, or use `sharp-prompt long_tail`."
            )


def check_is_one(args: ExperimentArguments) -> None:
    """Refuse several methods and several data sets, which protocols compare."""
    for name, values in (("dataset", args.datasets), ("recipes", args.recipes)):
        if len(values) != 1:
            raise ValueError(
                f"train makes an adapter of one of --{name}, got {len(values)}: {', '.join(values)}. Run it for each, "
                "or compare them with `sharp-prompt base2novel`."
            )


class TrainCLIP(CLIPExperiment):
    """Learns prompts of CLIP from all classes. Results are the `accuracy` and the calibration error `ece`."""

    protocol = "train"
    extras = {}
    columns = {"accuracy": "accuracy", "ECE": "ece"}

    def __init__(self, dataset: str, args: TrainArguments, training: SharpPromptTrainingArguments) -> None:
        images = CLIPImages(dataset, args, training.dataloader_num_workers, self.load_splits)
        super().__init__(dataset, args, training, images)

    def load_splits(self, dataset: str, args: TrainArguments, **loading: Any) -> datasets.DatasetDict:
        """Load the splits, and remember what is measured on."""
        splits, self.measured_on = load_with_something_to_measure(dataset, args, **loading)
        return with_few_images(splits) if args.smoke else splits

    @cached_property
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        return {self.args.eval_split: self.splits[self.args.eval_split]}

    def describe(self) -> str:
        return describe(self.name, self.splits, self.measured_on)

    def measure(self, trainer: CLIPTrainer) -> Result:
        measured: dict[str, Any] = trainer.evaluate()
        return {key: measured[f"eval_{self.args.eval_split}_{key}"] for key in self.columns.values()}

    def draw(self, results: Results) -> None:
        """Draw nothing: one method has nothing to be compared with."""

    def conclude(self, results: Results) -> str:
        return say_how_to_predict(results)


class TrainViT(LongTail):
    """Learns prompts of a vision transformer from all classes. Results are the `accuracy`."""

    protocol = "train"
    extras = {}
    columns = {"accuracy": "accuracy"}
    costs = COSTS

    def load_splits(self) -> datasets.DatasetDict:
        self.measured_on = f"the {self.args.eval_split} split"
        if self.dataset == demo.LONG_TAIL_TASK.name:
            return super().load_splits()
        # No prompts are made of the classes' names here, so codes and numbers are accepted.
        loading = {**self.args.loading, "class_names": self.args.class_names or {}, "skipped": self.skipped}
        splits, self.measured_on = load_with_something_to_measure(self.dataset, self.args, **loading)
        return self.with_long_tail(splits)

    def describe(self) -> str:
        return describe(self.name, self.splits, self.measured_on)

    def measure(self, trainer: LongTailTrainer) -> Result:
        return {"accuracy": trainer.evaluate()["eval_overall"]}

    def draw(self, results: Results) -> None:
        """Draw nothing: one method has nothing to be compared with."""

    def conclude(self, results: Results) -> str:
        return say_how_to_predict(results)


def say_how_to_predict(results: Results) -> str:
    """Say how the adapters are used; empty if there are none."""
    adapters = [run["adapter"] for runs in results.values() for run in succeeded(runs) if "adapter" in run]
    if not adapters:
        return ""
    return f"`sharp-prompt predict ADAPTER IMAGES` classifies images with it. ADAPTER: {' or '.join(adapters)}"


def load_with_something_to_measure(
    dataset: str, args: ExperimentArguments, **loading: Any
) -> tuple[datasets.DatasetDict, str]:
    """Load a data set without holding training images out, which an adapter that is to be used had better learn from.

    Args:
        dataset: The data set, as the command line names it.
        args: The command's arguments.
        **loading: Arguments of `load_image_dataset`.

    Returns:
        The splits, with one to measure on, and what that is in words.
    """
    splits = load_image_dataset(dataset, **loading, needs_test_split=False)
    if args.eval_split not in (*splits, "test"):
        raise ValueError(f"{dataset} has no {args.eval_split} split; it has {', '.join(splits)}.")
    if args.eval_split in splits:
        return splits, f"the {args.eval_split} split"
    if "validation" in splits:
        splits["test"] = splits["validation"]
        return splits, "the validation split, as there is no test split"
    splits["test"] = splits["train"]
    return splits, "the training images, as there is no test split"


def describe(name: str, splits: datasets.DatasetDict, measured_on: str) -> str:
    train = splits["train"]
    classes = len(train.features["label"].names)
    return f"{name}: {classes} classes, {len(train)} training images; measured on {measured_on}."


def main(argv: Sequence[str]) -> int:
    """Train one method on one data set, and say where its adapters are; returns the exit code."""
    asked, others = read_recipes(argv)
    defaults = {**make_defaults(), **DEFAULTS}
    if not any(recipe.startswith(VIT_RECIPES) for recipe in asked):
        groups = ArgumentGroups(TrainArguments, CLIPPromptArguments, defaults, RECIPES)
        return run_protocol(groups, one_per_data_set(TrainCLIP), MANUAL, argv)
    names = [recipe.removeprefix(VIT_RECIPES) for recipe in asked]
    vit_groups = ArgumentGroups(ViTTrainArguments, ViTPromptArguments, defaults, RECIPES / VIT_RECIPES)
    return run_protocol(vit_groups, one_per_data_set(TrainViT), MANUAL, [*others, "--recipes", *names])


def read_recipes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the recipes of a command line, and its other words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipes", nargs="*", default=[])
    asked, others = parser.parse_known_args(list(argv))
    return asked.recipes, others
