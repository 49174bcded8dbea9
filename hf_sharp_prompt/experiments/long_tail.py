"""Long-tailed recognition: the data, the runs and the tables of one experiment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import DatasetDict
from peft import PeftModel, get_peft_model
from rich.table import Column, Table
from torch.utils.data import DataLoader, Dataset
from transformers import AutoImageProcessor, AutoModel, EvalPrediction, PreTrainedModel, PrinterCallback, set_seed

from .. import demo, metrics
from ..data import (
    CIFAR_MEAN,
    CIFAR_STD,
    CIFARAugmentation,
    ImageCollator,
    RandomResizedCropFlip,
    ResizeCenterCrop,
    class_counts,
    exponential_counts,
    fingerprint,
    load_image_dataset,
    pareto_counts,
    subsample,
)
from ..plots import plot_accuracy_by_group
from ..printable import printable
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners import ViTPromptConfig
from .command_line import (
    Method,
    check_at_least,
    check_seeds,
    make_defaults,
    name_of_data,
    naming_model,
    parse_methods,
    training_of_run,
)
from .publishing import Publication
from .results import (
    Result,
    Results,
    in_percent,
    name_of_row,
    succeeded,
)
from .runs import Run, fingerprint_of_model, identify


DEFAULTS = {"output_dir": "runs/long_tail", "eval_strategy": "no"}
PROFILES = ("exponential", "pareto", "none")
MAX_PER_CLASS_ON_DEMO = 100  # so that with the default imbalance the rarest has one
SHARES = (0.36, 0.35)  # of the classes that are many- and medium-shot, as in CIFAR100-LT: 36, 35 and 29 of 100
COLUMNS = {"overall": "overall", "many": "many", "medium": "medium", "few": "few", "ECE": "ece"}


@dataclass
class ExperimentArguments:
    model: str = field(
        default=str(demo.VIT_PATH),
        metadata={"help": "A ViT, DeiT, BEiT or DINOv2: a Hub id or a directory. Default: the embedded demo's."},
    )
    dataset: str = field(
        default=demo.LONG_TAIL_TASK.name,
        metadata={
            "help": "A Hub id, a folder in imagefolder layout, a data set saved with save_to_disk, or a task of the "
            f"embedded demo: {demo.LONG_TAIL_TASK.name}, {', '.join(demo.TASKS)}."
        },
    )
    image_column: str | None = field(
        default=None, metadata={"help": "The column of the images. Default: the one whose feature is an Image."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "The column of the labels. Default: the one whose feature is a ClassLabel."}
    )
    profile: str = field(
        default="exponential",
        metadata={
            "help": "How the classes' training images fall off, in the order of the labels: exponential as in "
            "CIFAR100-LT, pareto as in ImageNet-LT, or none for the data set's own counts, as of iNaturalist 2018 and "
            "Places-LT.",
            "choices": list(PROFILES),
        },
    )
    imbalance_factor: float = field(
        default=100.0, metadata={"help": "Training images of the most frequent class over those of the rarest."}
    )
    max_per_class: int | None = field(
        default=None,
        metadata={
            "help": "Training images of the most frequent class. Default: as many as every class has; on the demo "
            f"{MAX_PER_CLASS_ON_DEMO}."
        },
    )
    group_sizes: list[int] | None = field(
        default=None,
        metadata={
            "help": "How many classes are many-, medium- and few-shot, in the order of the labels. Default: with an "
            "exponential profile 36, 35 and 29 %, as in CIFAR100-LT; else by training images: more than 100 are many, "
            "fewer than 20 few."
        },
    )
    preprocessing: str = field(
        default="crop",
        metadata={
            "help": "How images are prepared: crop for a random resized crop and a flip in training; cifar for what "
            "RSAM-PT's authors do with CIFAR, which is a padded crop, flip, AutoAugment and Cutout at 32 pixels in "
            "training, the centre 7/8 in a test, and CIFAR's mean and deviation.",
            "choices": ["crop", "cifar"],
        },
    )
    recipes: list[str] = field(
        default_factory=lambda: ["ce", "vpt_sam", "vpt_imbsam", "rsam_pt"],
        metadata={
            "help": "The methods to run: names of files in examples/recipes/long_tail, or paths of YAML files like "
            "them."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [1, 2, 3],
        metadata={"help": "Seeds, each one run per method: of the initialisation and the order."},
    )
    eval_split: str = field(
        default="test",
        metadata={"help": "The split to measure on: test, or validation to choose hyperparameters."},
    )

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        check_at_least(1, imbalance_factor=self.imbalance_factor, max_per_class=self.max_per_class)
        if self.group_sizes is not None and min(self.group_sizes, default=0) < 0:
            raise ValueError(f"--group_sizes must not be negative, got {self.group_sizes}.")
        if self.group_sizes is not None and len(self.group_sizes) != 3:
            raise ValueError(
                "--group_sizes takes three numbers, of many-, medium- and few-shot classes, e.g. 36 35 29; got "
                f"{self.group_sizes}."
            )


@dataclass
class PromptArguments:
    num_tokens: int = field(default=10, metadata={"help": "Number of learned tokens in every prompted layer."})
    depth: int | None = field(default=None, metadata={"help": "Number of prompted layers. Default: every layer."})
    init: str = field(
        default="xavier",
        metadata={
            "help": "How the tokens are initialised: as VPT does, or normal with deviation 0.02, cut at two.",
            "choices": ["xavier", "trunc_normal"],
        },
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout of the learned tokens."})
    pooling: str = field(
        default="model",
        metadata={
            "help": "What the head sees: what the model's own classifier does, CLS, or CLS mixed with the learned "
            "tokens' outputs.",
            "choices": ["model", "cls", "cls_prompt"],
        },
    )
    head: str = field(default="linear", metadata={"help": "The head.", "choices": ["linear", "cosine"]})
    head_dropout: float = field(default=0.0, metadata={"help": "Dropout of the feature before the head."})
    scale: float = field(default=25.0, metadata={"help": "Scale of a cosine head's logits."})


class Pixels(Dataset):
    """Images as the model takes them, made once and kept in memory.

    Args:
        images: With an `image` and a `label` column.
        collator: Makes the pixel values.
    """

    def __init__(self, images: datasets.Dataset, collator: ImageCollator) -> None:
        batch = collator(list(images))
        self.pixel_values, self.labels = batch["pixel_values"], batch["labels"]
        self.class_names = images.features["label"].names

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


Images = datasets.Dataset | Pixels


def load_in_order(images: Images, collator: ImageCollator, training: SharpPromptTrainingArguments) -> DataLoader:
    """Batches to measure on: not augmented, and decoded in workers if there is anything to decode."""
    return DataLoader(
        images,
        training.eval_batch_size,
        collate_fn=collator,
        num_workers=0 if isinstance(images, Pixels) else training.dataloader_num_workers,
        pin_memory=training.dataloader_pin_memory,
    )


class Experiment:
    """One data set with its long tail, how it is judged, and where its results go."""

    def __init__(self, args: ExperimentArguments, output_dir: str) -> None:
        self.args = args
        self.name = name_of_data(args.dataset)
        self.directory = Path(output_dir, self.name)
        with PartialState().main_process_first():
            splits = self.load_splits()
            with naming_model(args.model):
                processor = AutoImageProcessor.from_pretrained(args.model)
        if args.eval_split not in splits:
            raise ValueError(f"{args.dataset} has no {args.eval_split} split; it has {', '.join(splits)}.")
        train, evaluation = splits["train"], splits[args.eval_split]
        self.splits = DatasetDict(train=train, evaluation=evaluation)
        self.class_names = train.features["label"].names
        self.counts = class_counts(train)
        self.groups = self.find_groups()
        size = processor.size.get("height") or processor.size["shortest_edge"]
        if args.preprocessing == "cifar":
            processor.image_mean, processor.image_std = list(CIFAR_MEAN), list(CIFAR_STD)
            augment, prepare = CIFARAugmentation(), ResizeCenterCrop(size)
        else:
            augment, prepare = RandomResizedCropFlip(size), None
        self.collator = ImageCollator(processor, prepare)
        self.train: Images = Pixels(train, self.collator) if on_demo(args) else train
        self.evaluation: Images = Pixels(evaluation, self.collator) if on_demo(args) else evaluation
        self.train_collator = ImageCollator(processor, augment)  # of pixels, leaves them as they are

    def load_splits(self) -> DatasetDict:
        """The training split is long-tailed and the same for all seeds; the others are as they are."""
        args, task = self.args, demo.LONG_TAIL_TASK
        if args.dataset == task.name:
            return demo.load_long_tail(self.make_counts([MAX_PER_CLASS_ON_DEMO] * len(task.classes)))
        # No prompts are made of the classes' names here: codes and numbers will do.
        splits = load_image_dataset(args.dataset, args.image_column, args.label_column, class_names={})
        splits["train"] = subsample(splits["train"], self.make_counts(class_counts(splits["train"])))
        return splits

    def make_counts(self, available: list[int]) -> list[int]:
        """How many training images of each class."""
        args = self.args
        largest = args.max_per_class or min(available)
        if args.profile == "exponential":
            return exponential_counts(len(available), largest, args.imbalance_factor)
        if args.profile == "pareto":
            return pareto_counts(len(available), largest, max(1, round(largest / args.imbalance_factor)))
        return [min(count, args.max_per_class or count) for count in available]

    def find_groups(self) -> dict[str, list[int]]:
        """Which classes are many-, medium- and few-shot, as the metric takes it."""
        if self.args.group_sizes is not None:
            return {"group_sizes": self.args.group_sizes}
        if self.args.profile != "exponential":
            return {"train_counts": self.counts}
        many, medium = (round(share * len(self.counts)) for share in SHARES)
        return {"group_sizes": [many, medium, len(self.counts) - many - medium]}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What all runs have in common: other data or another model under the same name make another experiment."""
        set_seed(0)  # A head that the checkpoint lacks is drawn at random.
        (data,) = broadcast_object_list([fingerprint(self.splits) if PartialState().is_main_process else None])
        return {
            "model_fingerprint": fingerprint_of_model(self.load_vit()),
            "data_fingerprint": data,
            "counts": self.counts,
            "groups": self.groups,
            "eval_split": self.args.eval_split,
            "preprocessing": self.args.preprocessing,
        }

    def judge(self, prediction: EvalPrediction) -> Result:
        calibration = metrics.compute("expected_calibration_error", prediction)
        return metrics.compute("shot_groups", prediction, **self.groups) | {
            "ece": calibration["expected_calibration_error"]
        }

    def load_vit(self) -> PreTrainedModel:
        return AutoModel.from_pretrained(self.args.model).eval()


def on_demo(args: ExperimentArguments) -> bool:
    return args.dataset in {demo.LONG_TAIL_TASK.name, *demo.TASKS}


class LongTailTrainer(SharpPromptTrainer):
    """Measures on images as they are, and counts how often an image is run and differentiated."""

    images, evaluations = 0, 0

    def __init__(self, *args: Any, evaluation_collator: ImageCollator, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.evaluation_collator = evaluation_collator

    def get_eval_dataloader(self, eval_dataset: Images | None = None) -> DataLoader:
        images = self.eval_dataset if eval_dataset is None else eval_dataset
        return self.accelerator.prepare(load_in_order(images, self.evaluation_collator, self.args))

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        self.images += len(inputs["labels"])
        return super().training_step(model, inputs, *args, **kwargs)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        self.evaluations += len(inputs["labels"]) * model.training
        return super().compute_loss(model, inputs, *args, **kwargs)


def parse_arguments(argv: list[str], recipes: Path, description: str) -> tuple[ExperimentArguments, list[Method]]:
    """Read a script's command line; see `parse_methods`."""
    kinds = (ExperimentArguments, PromptArguments, SharpPromptTrainingArguments)
    return parse_methods(kinds, make_defaults() | DEFAULTS, recipes, on_demo, description, argv)


def list_runs(experiment: Experiment, methods: list[Method]) -> list[Run]:
    return [make_run(experiment, method, seed) for method in methods for seed in experiment.args.seeds]


def make_run(experiment: Experiment, method: Method, seed: int) -> Run:
    """One method with one seed. The result: accuracies "overall", "many", "medium" and "few", "ece", and the gradient
    evaluations per step."""
    directory, given = experiment.directory / method.name / f"seed{seed}", method.training
    training = training_of_run(method, seed, directory, experiment.args.dataset, isinstance(experiment.train, Pixels))
    return Run(
        method.name,
        seed,
        f"{experiment.name}, {method.name}, seed {seed}",
        directory,
        identify(experiment.identity, dataclasses.asdict(method.prompt), training),
        make_trainer=lambda: make_trainer(experiment, method, training),
        load_trainer=lambda: load_trainer(experiment, training),
        measure=measure,
        measured=list(COLUMNS.values()),
        publication=Publication(directory, training.hub_model_id, given.hub_token, given.hub_private_repo)
        if given.push_to_hub
        else None,
    )


def make_trainer(experiment: Experiment, method: Method, training: SharpPromptTrainingArguments) -> LongTailTrainer:
    """The Trainer of a new prompt."""
    set_seed(training.seed)
    config = ViTPromptConfig(class_names=experiment.class_names, **dataclasses.asdict(method.prompt))
    model = get_peft_model(experiment.load_vit(), config)
    return trainer_of(
        model, training, experiment, data_collator=experiment.train_collator, train_dataset=experiment.train
    )


def load_trainer(experiment: Experiment, training: SharpPromptTrainingArguments) -> LongTailTrainer:
    """A Trainer of what a run saved, on a fresh base model; it measures as the run's own does."""
    return trainer_of(PeftModel.from_pretrained(experiment.load_vit(), training.output_dir), training, experiment)


def trainer_of(
    model: PeftModel, training: SharpPromptTrainingArguments, experiment: Experiment, **data: Any
) -> LongTailTrainer:
    trainer = LongTailTrainer(
        model,
        training,
        eval_dataset=experiment.evaluation,
        compute_metrics=experiment.judge,
        evaluation_collator=experiment.collator,
        **data,
    )
    trainer.remove_callback(PrinterCallback)  # a line per run says enough
    return trainer


def measure(trainer: LongTailTrainer) -> Result:
    measured = trainer.evaluate()
    return {name: measured[f"eval_{name}"] for name in COLUMNS.values()} | {
        "evaluations_per_step": trainer.evaluations / trainer.images if trainer.images else None
    }


def describe_data(experiment: Experiment) -> str:
    counts = experiment.counts
    return (
        f"{experiment.name}: {len(counts)} classes, {sum(counts)} training images, {max(counts)} of the most frequent "
        f"class and {min(counts)} of the rarest; measured on {len(experiment.evaluation)} images."
    )


def make_table(title: str, results: Results) -> Table:
    table = Table(
        Column("method", no_wrap=True),
        *COLUMNS,
        "seconds a run",
        "gradients a step",
        title=title,
        title_justify="left",
    )
    for name, of_method in results.items():
        runs = succeeded(of_method)
        measured = [in_percent([run[column] for run in runs]) for column in COLUMNS.values()]
        evaluations = [run["evaluations_per_step"] for run in runs if run["evaluations_per_step"] is not None]
        cost = f"{mean(evaluations):.2f}" if evaluations else ""
        seconds = f"{mean(run['seconds'] for run in runs):.1f}" if runs else ""
        table.add_row(name_of_row(name, of_method), *measured, seconds, cost)
    return table


def draw_by_group(experiment: Experiment, results: Results) -> None:
    """Draw the accuracies by group of classes into `accuracy_by_group.png` of the experiment's directory."""
    if finished := {name: succeeded(runs) for name, runs in results.items() if succeeded(runs)}:
        plot_accuracy_by_group(
            finished, experiment.directory / "accuracy_by_group.png", title=printable(experiment.name)
        )
