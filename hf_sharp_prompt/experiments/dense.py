"""Prompts of models that label objects or pixels: learned from base categories, measured on base, novel and all.

Detection and segmentation subclass [`DenseExperiment`]; they say how data are loaded, drawn and put into batches, and
how predictions are judged.
"""

from __future__ import annotations

import dataclasses
import io
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import datasets
import torch
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, AutoProcessor, EvalPrediction, PreTrainedModel, PrinterCallback, set_seed

from .. import demo, progress
from ..class_names import read_class_names
from ..data import EncodedRows, encode_rows
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners import CLIPPromptConfig
from ..tuners.image_encoder import ImageEncoder
from ..tuners.sharding import place_model, place_original
from .arguments import (
    CLIPPromptArguments,
    ExperimentArguments,
    check_shots,
    make_defaults,
    naming_model,
)
from .averages import HALVES, with_harmonic_mean
from .experiment import Experiment
from .figures import draw_by_group
from .images import fingerprint_on_main
from .manuals.dense import DENSE
from .manuals.manual import option_field
from .manuals.shared import ALL
from .methods import Method
from .reporting import ReportsProgress
from .results import Result, Results
from .smoke import IMAGES
from .threads import threads_that_pay, work_of_images


CLIPMethod = Method[CLIPPromptArguments]

PICTURED = 3
"""How many images a card's picture shows."""

ENCODED_AT_A_TIME = 16
"""How many images are encoded at a time."""

SETS = (*HALVES, "all")
"""What is measured on: base categories among their own names, novel ones among theirs, and all among all names."""

Collate = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]


@dataclass
class DenseArguments(ExperimentArguments):
    """The arguments of protocols that find objects or segment."""

    suites = {"all": tuple(demo.SCENE_TASKS)}

    dataset: list[str] = option_field(DENSE["dataset"])
    base_classes: str | None = option_field(DENSE["base_classes"])
    novel_classes: str | None = option_field(DENSE["novel_classes"])
    shots: str = option_field(DENSE["shots"])
    template: str = option_field(DENSE["template"])
    cache_features: str = option_field(DENSE["cache_features"])
    recipes: list[str] = option_field(DENSE["recipes"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shots([self.shots])
        unread = {"data_root": None, "image_column": None, "label_column": None, "on_bad_image": "raise"}
        if given := [name for name, default in unread.items() if getattr(self, name) != default]:
            raise ValueError(f"--{given[0]} is for data sets of classification; leave it out here.")
        for half in HALVES:
            if getattr(self, f"{half}_classes") is not None and len(self.datasets) > 1:
                raise ValueError(f"--{half}_classes divides one data set, but there are {len(self.datasets)}.")

    def shrink(self) -> None:
        super().shrink()
        self.shots = str(min(self.number_of_shots or IMAGES, IMAGES))

    @property
    def number_of_shots(self) -> int | None:
        """The training images of each category; None for all that there are."""
        return None if self.shots == ALL else int(self.shots)

    @property
    def class_names_to_read(self) -> list[str] | dict[str, str] | None:
        """The names of the categories that `--class_names` has."""
        return None if self.class_names is None else read_class_names(self.class_names)

    def names_of(self, half: str) -> list[str] | None:
        """The names in the file of a half's categories; None if there is none."""
        file = getattr(self, f"{half}_classes")
        names = None if file is None else read_class_names(file)
        return list(names.values()) if isinstance(names, dict) else names


def make_dense_defaults() -> dict[str, Any]:
    """Return the defaults of training arguments: measured once, at the end, and in batches that fit features."""
    return {**make_defaults(), "eval_strategy": "no", "per_device_eval_batch_size": 32}


class NamedRows(Dataset[dict[str, Any]]):
    """Rows of a data set that are decoded in every step, and the names of their categories.

    Args:
        rows: The rows.
        class_names: The names.
    """

    def __init__(self, rows: datasets.Dataset, class_names: Sequence[str]) -> None:
        self.rows, self.class_names = rows, list(class_names)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


DenseImages = NamedRows | EncodedRows


@dataclass(frozen=True)
class Measured:
    """What a set is measured on.

    Args:
        images: Its images.
        collate: Makes their batches.
        judge: From the predictions for all images to results.
        template: The text around a name; None for the adapter's.
    """

    images: DenseImages
    collate: Collate
    judge: Callable[[EvalPrediction], Result]
    template: str | None = None


class DenseTrainer(SharpPromptTrainer):
    """Measures each set among its own names of categories.

    Args:
        measured: What to measure on, by name.
        tokenizer: What reads names.
        label_names: The inputs that are labels, so that `judge` gets them.
        *args, **options: As of the Trainer.

    Attributes:
        details: By set, what `judge` returned besides numbers, which are all that a Trainer logs.
    """

    def __init__(
        self, *args: Any, measured: Mapping[str, Measured], tokenizer: Any, label_names: Sequence[str], **options: Any
    ) -> None:
        sets = {name: each.images for name, each in measured.items()}
        super().__init__(*args, eval_dataset=sets, compute_metrics=self._judge, **options)
        self.details: dict[str, Result] = {}
        self.measured, self.tokenizer, self.label_names = measured, tokenizer, list(label_names)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        each = self.measured[eval_dataset]
        loader = DataLoader(
            each.images,
            self.args.eval_batch_size,
            collate_fn=each.collate,
            num_workers=self.args.dataloader_num_workers if isinstance(each.images, NamedRows) else 0,
            pin_memory=bool(self.args.dataloader_pin_memory),
        )
        return self.accelerator.prepare(loader)

    def evaluation_loop(self, dataloader: DataLoader[Any], *args: Any, **options: Any) -> Any:
        model: Any = self.model  # PEFT forwards what a tuner has, unseen by type checkers.
        self._name = options["metric_key_prefix"].removeprefix("eval_")
        each = self.measured[self._name]
        template = model.active_config.class_template if each.template is None else each.template
        with model.using_classes(each.images.class_names, self.tokenizer, template):
            return super().evaluation_loop(dataloader, *args, **options)

    def _judge(self, prediction: EvalPrediction) -> dict[str, float]:
        results = self.measured[self._name].judge(prediction)
        numbers = {name: value for name, value in results.items() if isinstance(value, float)}
        self.details[self._name] = {name: value for name, value in results.items() if name not in numbers}
        return numbers


class DenseExperiment(Experiment[CLIPPromptArguments, DenseTrainer]):
    """One data set whose objects or pixels are labelled, and prompts for them.

    Results are, for each of `metrics`, `base`, `novel`, their harmonic mean `hm`, and `all`, with the metric's suffix;
    and what else `judge` returns, by set, in `details`.

    Args:
        dataset: The data set, as the command line names it.
        args: The experiment's arguments.
        training: Training arguments: the output directory, and how many workers decode images.

    Attributes:
        task: The task, as `CLIPPromptConfig` has it.
        metrics: What `judge` returns → the suffix of its results.
        label_names: The inputs that are labels.
        trainer_class: The Trainer.
        models: The type of a checkpoint → the model.
        checkpoints: Checkpoints that it takes, for messages.
    """

    task: ClassVar[str]
    metrics: ClassVar[Mapping[str, str]]
    label_names: ClassVar[Sequence[str]] = ("labels",)
    trainer_class: ClassVar[type[DenseTrainer]] = DenseTrainer
    models: ClassVar[Mapping[str, type[PreTrainedModel]]]
    checkpoints: ClassVar[str]

    def __init__(self, dataset: str, args: DenseArguments, training: SharpPromptTrainingArguments) -> None:
        super().__init__(dataset, args, training)
        self.args, self.num_workers = args, training.dataloader_num_workers
        progress.report("reading")
        with PartialState().main_process_first():
            self.model_class = self.find_model_class()
            self.rows = self.load_rows()
            with naming_model(args.model):
                self.processor = AutoProcessor.from_pretrained(args.model)
        if args.eval_split not in self.rows:
            raise ValueError(f"{dataset} has no {args.eval_split} split; it has {', '.join(self.rows)}.")
        self._encoded: dict[Any, EncodedRows] = {}

    def find_model_class(self) -> type[PreTrainedModel]:
        """Find the model of the checkpoint; refuse another kind, of which a loader would make random weights."""
        with naming_model(self.args.model):
            kind = AutoConfig.from_pretrained(self.args.model).model_type
        if kind not in self.models:
            raise ValueError(
                f"--model {self.args.model} is a model of the type {kind!r}, but this experiment is of "
                f"{', '.join(self.models)}, such as {self.checkpoints}."
            )
        return self.models[kind]

    @cached_property
    def model(self) -> PreTrainedModel:
        model = self.model_class.from_pretrained(self.args.model).eval()
        place_original(model, PartialState().device)
        return model

    @abstractmethod
    def load_rows(self) -> datasets.DatasetDict:
        """Load the splits of the data set, in the form of its task; a few rows of each for `--smoke`."""

    @cached_property
    @abstractmethod
    def names(self) -> Mapping[str, Sequence[str]]:
        """The names of the categories of each of `SETS`, in the order of their labels there."""

    @abstractmethod
    def rows_to_measure(self, name: str) -> datasets.Dataset:
        """The images to measure on, the same for each of `SETS`, labelled by the categories of one."""

    @abstractmethod
    def draw_rows(self, seed: int) -> datasets.Dataset:
        """Draw the images to learn from, labelled by base categories alone."""

    @abstractmethod
    def make_collator(self, name: str, measures: bool) -> Any:
        """Make what makes batches of one of `SETS`, to measure or to learn from; it has a `fingerprint`."""

    @abstractmethod
    def judge(self, name: str, prediction: EvalPrediction) -> Result:
        """Return the `metrics` of predictions for all images of one of `SETS`."""

    @abstractmethod
    def picture(self, model: Any, rows: Sequence[dict[str, Any]]) -> Image.Image:
        """Draw the truth and a model's predictions of all categories beside each other.

        Args:
            model: The model with an adapter, on the process's device, which compares with all categories.
            rows: The images.
        """

    def picture_for_card(self, model: Any) -> bytes:
        """Return the picture that a card shows, of the first images that are measured on, as a PNG file."""
        split = self.rows_to_measure("all")
        rows = list(split.select(range(min(PICTURED, len(split)))))
        file = io.BytesIO()
        template = model.active_config.class_template
        with torch.no_grad(), model.using_classes(self.names["all"], self.processor, template):
            self.picture(model, rows).save(file, format="PNG")
        return file.getvalue()

    def compress(self, logits: Any, labels: Any) -> Any:
        """Return what is kept of a batch's predictions, on the device; by default all."""
        return logits

    def setting(self) -> dict[str, Any]:
        return {"shots": self.args.number_of_shots or ALL, **super().setting()}

    def settings(self) -> dict[str, Any]:
        shots = self.args.number_of_shots or ALL
        names = {name: list(each) for name, each in self.names.items()}
        return {"shots": shots, "eval_split": self.args.eval_split, "categories": names}

    def data_fingerprint(self) -> str:
        return fingerprint_on_main(
            datasets.DatasetDict({name: self.rows[name] for name in ("train", self.args.eval_split)})
        )

    @property
    def repository_parts(self) -> tuple[str, ...]:
        """With the protocol, since the same data may have boxes and masks."""
        return self.protocol, *super().repository_parts

    def decodes_images(self, method: CLIPMethod) -> bool:
        return self.args.cache_features == "no" or method.prompt.learns_in_image_tower

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The frozen image side of the model."""
        model = self.load_model().requires_grad_(False)
        place_model(model, PartialState().device)
        return ImageEncoder(model, self.task)

    def encode(self, key: Any, rows: datasets.Dataset, collator: Any, names: Sequence[str]) -> EncodedRows:
        """Encode images once for all that has the same key."""
        if key not in self._encoded:
            on_disk = self.args.cache_features == "disk"
            with threads_that_pay(work_of_images(self.model.config.vision_config, ENCODED_AT_A_TIME)):
                features = encode_rows(
                    rows,
                    self.encoder,
                    collator,
                    on_disk,
                    batch_size=ENCODED_AT_A_TIME,
                    num_workers=self.num_workers,
                )
            self._encoded[key] = EncodedRows(rows, features, names)
        return self._encoded[key]

    def images_to_measure(self, name: str, as_pixels: bool) -> DenseImages:
        """The images to measure on, labelled by the categories of one of `SETS`."""
        rows, names = self.rows_to_measure(name), self.names[name]
        if as_pixels:
            return NamedRows(rows, names)
        return self.encode("measured", rows, self.make_collator(name, measures=True), names).with_rows(rows, names)

    def images_to_train_on(self, method: CLIPMethod, seed: int) -> DenseImages:
        """The images that a method learns from."""
        names = self.names["base"]
        if self.decodes_images(method):
            return NamedRows(self.draw_rows(seed), names)
        if seed not in self._encoded:
            self.encode(seed, self.draw_rows(seed), self.make_collator("base", measures=False), names)
        return self._encoded[seed]

    def make_config(self, **prompt: Any) -> CLIPPromptConfig:
        """Make the config of a prompt from its fields."""
        return CLIPPromptConfig(task=self.task, **prompt)

    def make_trainer(self, method: CLIPMethod, training: SharpPromptTrainingArguments) -> DenseTrainer:
        images = self.images_to_train_on(method, training.seed)
        set_seed(training.seed)
        prompt = dict(vars(method.prompt))
        template = prompt.pop("class_template")
        model = get_peft_model(self.load_model(), self.make_config(**prompt))
        model.set_classes(self.names["base"], self.processor, template)
        collator = self.make_collator("base", measures=False)
        as_pixels = self.decodes_images(method)
        return self.trainer_of(model, training, as_pixels, train_dataset=images, data_collator=collator)

    def load_trainer(self, method: CLIPMethod, training: SharpPromptTrainingArguments) -> DenseTrainer:
        model = PeftModel.from_pretrained(self.load_model(), self.directory_of(method, training.seed))
        return self.trainer_of(model, training, self.decodes_images(method))

    def prepare(self, method: CLIPMethod, seed: int) -> None:
        self.images_to_train_on(method, seed)
        for name in SETS:
            self.images_to_measure(name, self.decodes_images(method))

    def work_of(self, method: CLIPMethod) -> int:
        # The patches pass the heads, if not the tower.
        return work_of_images(self.model.config.vision_config, method.training.train_batch_size)

    def measure_baselines(self, training: SharpPromptTrainingArguments) -> Results:
        """Measure the model without prompts, with the hand-written text, as the learned ones are measured."""
        model = get_peft_model(self.load_model(), self.make_config())
        training = dataclasses.replace(training, output_dir=str(self.directory), push_to_hub=False, objectives=None)
        as_pixels = self.args.cache_features == "no"
        trainer = self.trainer_of(model, training, as_pixels, self.args.template)
        with model.disable_adapter():
            return {"zero-shot": [self.measure(trainer)]}

    def trainer_of(
        self,
        model: Any,
        training: SharpPromptTrainingArguments,
        as_pixels: bool,
        template: str | None = None,
        **options: Any,
    ) -> DenseTrainer:
        """Make a Trainer of a model with an adapter, which measures on pixels or on features."""
        trainer = self.trainer_class(
            model,
            training,
            measured={name: self._measured(name, as_pixels, template) for name in SETS},
            tokenizer=self.processor,
            label_names=self.label_names,
            preprocess_logits_for_metrics=self.compress,
            **options,
        )
        trainer.remove_callback(PrinterCallback)  # A line for each run says enough.
        trainer.add_callback(ReportsProgress())
        return trainer

    def _measured(self, name: str, as_pixels: bool, template: str | None) -> Measured:
        return Measured(
            self.images_to_measure(name, as_pixels),
            self.make_collator(name, measures=True),
            lambda prediction: self.judge(name, prediction),
            template,
        )

    def measure(self, trainer: DenseTrainer) -> Result:
        """Measure base, novel and all categories."""
        measured = trainer.evaluate()
        if trainer.train_dataset is not None:  # in all processes, over which the model may be sharded
            trainer.picture = self.picture_for_card(trainer.model)
        result: Result = {}
        for metric, suffix in self.metrics.items():
            values = {name: measured[f"eval_{name}_{metric}"] for name in SETS}
            means = with_harmonic_mean({half: values[half] for half in HALVES}) | {"all": values["all"]}
            result |= {f"{name}{suffix}": value for name, value in means.items()}
        return {**result, "details": trainer.details}

    def draw(self, results: Results) -> None:
        """Draw a bar for each method on base, novel and all categories."""
        groups = {name: name for name in SETS}
        draw_by_group(results, groups, Path(self.directory, self.figure), f"{self.name}, {self.args.shots} shots")
