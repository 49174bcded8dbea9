"""The long-tailed protocol: learn a vision transformer's prompts from classes of which most are rare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets
import torch
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModel, EvalPrediction, PreTrainedModel, PrinterCallback, set_seed

from .. import demo, metrics, progress
from ..data import (
    CIFAR_MEAN,
    CIFAR_STD,
    CIFARAugmentation,
    ImageCollator,
    RandomResizedCropFlip,
    ResizeCenterCrop,
    class_counts,
    exponential_counts,
    load_image_dataset,
    pareto_counts,
    subsample,
)
from ..plots import SHOT_GROUPS
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners import ViTPromptConfig
from ..tuners.sharding import place_original
from .arguments import (
    ExperimentArguments,
    ViTPromptArguments,
    check_at_least,
    code_to_load,
    make_defaults,
    naming_model,
)
from .experiment import Experiment
from .figures import draw_by_group
from .images import Images, Pixels, fingerprint_on_main, load_in_order
from .manuals.long_tail import AUTO, IMBALANCE_FACTOR, MANUAL, MAX_PER_CLASS_ON_DEMO
from .manuals.manual import option_field
from .methods import ArgumentGroups, Method
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES
from .reporting import ReportsProgress
from .results import Result, Results
from .smoke import first_of_each_class
from .tables import COSTS
from .threads import work_of_images


SMOKE_PER_CLASS = 4  # Training images of the most frequent class in a smoke test.
SHARES = (0.36, 0.35)  # The shares of many- and medium-shot classes, as in CIFAR100-LT: 36, 35 and 29 of 100.


@dataclass
class LongTailArguments(ExperimentArguments):
    """The arguments of long-tailed experiments."""

    suites = {
        "all": (demo.LONG_TAIL_TASK.name, *demo.UNFAMILIAR_TASKS),
        "familiar": tuple(demo.FAMILIAR_TASKS),
    }

    model: str = option_field(MANUAL["model"], str(demo.VIT_PATH))
    dataset: list[str] = option_field(MANUAL["dataset"])
    recipes: list[str] = option_field(MANUAL["recipes"])
    profile: str = option_field(MANUAL["profile"])
    imbalance_factor: float | None = option_field(MANUAL["imbalance_factor"])
    max_per_class: int | None = option_field(MANUAL["max_per_class"])
    group_sizes: list[int] | None = option_field(MANUAL["group_sizes"])
    preprocessing: str = option_field(MANUAL["preprocessing"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, imbalance_factor=self.imbalance_factor, max_per_class=self.max_per_class)
        if self.group_sizes is not None and min(self.group_sizes, default=0) < 0:
            raise ValueError(f"--group_sizes must not be negative, got {self.group_sizes}.")
        if self.group_sizes is not None and len(self.group_sizes) != 3:
            raise ValueError(
                "--group_sizes takes three numbers, of many-, medium- and few-shot classes, e.g. 36 35 29; got "
                f"{self.group_sizes}."
            )


def argument_groups() -> ArgumentGroups[LongTailArguments, ViTPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_defaults(), "output_dir": MANUAL["output_dir"].default, "eval_strategy": "no"}
    return ArgumentGroups(LongTailArguments, ViTPromptArguments, defaults, RECIPES / "long_tail")


class LongTailTrainer(SharpPromptTrainer):
    """Measures on images as they are, and counts how often an image is run and differentiated.

    Args:
        evaluation_collator: Makes batches to measure on.
        *args, **options: As of the Trainer.
    """

    images, evaluations = 0, 0

    def __init__(self, *args: Any, evaluation_collator: ImageCollator, **options: Any) -> None:
        super().__init__(*args, **options)
        self.evaluation_collator = evaluation_collator

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        images = self.eval_dataset if eval_dataset is None else eval_dataset
        return self.accelerator.prepare(load_in_order(images, self.evaluation_collator, self.args))

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **options: Any
    ) -> torch.Tensor:
        self.images += len(inputs["labels"])
        return super().training_step(model, inputs, *args, **options)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **options: Any) -> Any:
        self.evaluations += len(inputs["labels"]) * model.training
        return super().compute_loss(model, inputs, *args, **options)


class LongTail(Experiment[ViTPromptArguments, LongTailTrainer]):
    """Learns from a long tail of classes, and measures all, frequent and rare ones.

    Results are the accuracies `overall`, `many`, `medium` and `few`, the expected calibration error `ece`, and the
    gradient `evaluations_per_step`.

    Attributes:
        counts: The training images of each class, by label.
        groups: Which classes are many-, medium- and few-shot, as the metric takes it.
        profile: How the classes' training images fall off: exponential, pareto or none.
    """

    protocol = "long_tail"
    columns = {"overall": "overall", "many": "many", "medium": "medium", "few": "few", "ECE": "ece"}
    costs = {**COSTS, "gradients a step": ("evaluations_per_step", 2)}
    figure = "accuracy_by_group.png"

    def __init__(self, dataset: str, args: LongTailArguments, training: SharpPromptTrainingArguments) -> None:
        super().__init__(dataset, args, training)
        self.args = args
        with PartialState().main_process_first():
            progress.report("reading")
            splits = self.load_splits()
            with naming_model(args.model):
                processor = AutoImageProcessor.from_pretrained(args.model)
        if args.eval_split not in splits:
            raise ValueError(f"{dataset} has no {args.eval_split} split; it has {', '.join(splits)}.")
        train, evaluation = splits["train"], splits[args.eval_split]
        if args.smoke:
            evaluation = first_of_each_class(evaluation)
        self.splits = datasets.DatasetDict(train=train, evaluation=evaluation)
        self.class_names = train.features["label"].names
        self.counts = class_counts(train)
        self.groups = self.find_groups()
        size = processor.size.get("height") or processor.size["shortest_edge"]
        augment: Callable[[Image.Image], Image.Image] = RandomResizedCropFlip(size)
        prepare = None
        if args.preprocessing == "cifar":
            processor.image_mean, processor.image_std = list(CIFAR_MEAN), list(CIFAR_STD)
            augment, prepare = CIFARAugmentation(), ResizeCenterCrop(size)
        self.collator = ImageCollator(processor, prepare)
        self.train: Images = Pixels(train, self.collator) if args.on_demo else train
        self.evaluation: Images = Pixels(evaluation, self.collator) if args.on_demo else evaluation
        self.train_collator = ImageCollator(processor, augment)  # It leaves pixels as they are.

    def load_splits(self) -> datasets.DatasetDict:
        """The training split is long-tailed and the same for all seeds; the others are as they are."""
        args, task = self.args, demo.LONG_TAIL_TASK
        if self.dataset == task.name:
            available = [MAX_PER_CLASS_ON_DEMO] * len(task.classes)
            self.profile = find_profile(args, available)
            return demo.load_long_tail(self.make_counts(available))
        # No prompts are made of the classes' names here, so codes and numbers are accepted.
        loading = {**args.loading, "class_names": args.class_names or {}}
        splits = load_image_dataset(self.dataset, **loading, skipped=self.skipped)
        return self.with_long_tail(splits)

    def with_long_tail(self, splits: datasets.DatasetDict) -> datasets.DatasetDict:
        """Leave training images out so that the classes' counts fall off as the profile says."""
        available = class_counts(splits["train"])
        self.profile = find_profile(self.args, available)
        splits["train"] = subsample(splits["train"], self.make_counts(available))
        return splits

    @property
    def imbalance_factor(self) -> float:
        """Training images of the most frequent class over those of the rarest, where a profile makes the counts."""
        return IMBALANCE_FACTOR if self.args.imbalance_factor is None else self.args.imbalance_factor

    def make_counts(self, available: list[int]) -> list[int]:
        """How many training images of each class."""
        args = self.args
        largest = min(SMOKE_PER_CLASS, *available) if args.smoke else args.max_per_class or min(available)
        imbalance = min(self.imbalance_factor, largest) if args.smoke else self.imbalance_factor
        if self.profile == "exponential":
            return exponential_counts(len(available), largest, imbalance)
        if self.profile == "pareto":
            return pareto_counts(len(available), largest, max(1, round(largest / imbalance)))
        most = SMOKE_PER_CLASS if args.smoke else args.max_per_class
        return [min(count, most or count) for count in available]

    def setting(self) -> dict[str, Any]:
        imbalance = {} if self.profile == "none" else {f"{self.profile} imbalance": f"{self.imbalance_factor:g}"}
        return {**imbalance, **super().setting()}

    def find_groups(self) -> dict[str, list[int]]:
        """Which classes are many-, medium- and few-shot, as the metric takes it."""
        if self.args.group_sizes is not None:
            return {"group_sizes": self.args.group_sizes}
        if self.profile != "exponential":
            return {"train_counts": self.counts}
        many, medium = (round(share * len(self.counts)) for share in SHARES)
        return {"group_sizes": [many, medium, len(self.counts) - many - medium]}

    @cached_property
    def model(self) -> PreTrainedModel:
        model = AutoModel.from_pretrained(self.args.model).eval()
        place_original(model, PartialState().device)
        return model

    def code_of_model(self) -> list[str]:
        return code_to_load("AutoModel", self.args.model, "VIT_PATH", demo.VIT_PATH)

    def data_fingerprint(self) -> str:
        return fingerprint_on_main(self.splits)

    def settings(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "groups": self.groups,
            "eval_split": self.args.eval_split,
            "preprocessing": self.args.preprocessing,
        }

    def decodes_images(self, method: Method[ViTPromptArguments]) -> bool:
        return not isinstance(self.train, Pixels)

    def describe(self) -> str:
        counts = self.counts
        return (
            f"{self.name}: {len(counts)} classes, {sum(counts)} training images, {max(counts)} of the most frequent "
            f"class and {min(counts)} of the rarest; measured on {len(self.evaluation)} images."
        )

    def prepare(self, method: Method[ViTPromptArguments], seed: int) -> None:
        """Do nothing: what runs have in common is loaded with the experiment."""

    def work_of(self, method: Method[ViTPromptArguments]) -> int:
        return work_of_images(self.model.config, method.training.train_batch_size)

    def make_trainer(
        self, method: Method[ViTPromptArguments], training: SharpPromptTrainingArguments
    ) -> LongTailTrainer:
        set_seed(training.seed)
        config = ViTPromptConfig(class_names=self.class_names, **vars(method.prompt))
        model = get_peft_model(self.load_model(), config)
        return self.trainer_of(model, training, data_collator=self.train_collator, train_dataset=self.train)

    def load_trainer(
        self, method: Method[ViTPromptArguments], training: SharpPromptTrainingArguments
    ) -> LongTailTrainer:
        model = PeftModel.from_pretrained(self.load_model(), self.directory_of(method, training.seed))
        return self.trainer_of(model, training)

    def trainer_of(self, model: Any, training: SharpPromptTrainingArguments, **options: Any) -> LongTailTrainer:
        """Make a Trainer of a model with an adapter."""
        trainer = LongTailTrainer(
            model,
            training,
            eval_dataset=self.evaluation,
            compute_metrics=self.judge,
            evaluation_collator=self.collator,
            **options,
        )
        trainer.remove_callback(PrinterCallback)  # A line for each run says enough.
        trainer.add_callback(ReportsProgress())
        return trainer

    def judge(self, prediction: EvalPrediction) -> Result:
        """The metrics of logits and labels."""
        calibration = metrics.compute("expected_calibration_error", prediction)
        return metrics.compute("shot_groups", prediction, **self.groups) | {
            "ece": calibration["expected_calibration_error"]
        }

    def measure(self, trainer: LongTailTrainer) -> Result:
        measured = trainer.evaluate()
        return {name: measured[f"eval_{name}"] for name in self.columns.values()} | {
            "evaluations_per_step": trainer.evaluations / trainer.images if trainer.images else None
        }

    def draw(self, results: Results) -> None:
        """Draw the accuracies by group of classes."""
        draw_by_group(results, SHOT_GROUPS, self.directory / self.figure, self.name)


def find_profile(args: LongTailArguments, available: Sequence[int]) -> str:
    """Find out how the classes' training images fall off; images are only left out of classes of the same size.

    Args:
        args: The command's arguments.
        available: The training images of each class.

    Raises:
        ValueError: An imbalance is asked for, but no profile that has one.
    """
    profile = args.profile
    if profile == AUTO:
        profile = "exponential" if len({*available}) == 1 else "none"
    if profile == "none" and args.imbalance_factor is not None:
        raise ValueError(
            f"--imbalance_factor is for an exponential or pareto profile, but the classes keep the {min(available)} "
            f"to {max(available)} training images that they have. Drop it, or give --profile exponential."
        )
    return profile


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), one_per_data_set(LongTail), MANUAL, argv)
