"""Prompts of CLIP on one data set: its images as pixels and as features, the Trainer, and zero-shot CLIP beside it.

Every protocol that classifies with CLIP subclasses [`CLIPExperiment`]; it says which images are measured on, and may
change which are learned from.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from rich.console import Console
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoProcessor,
    CLIPModel,
    EvalPrediction,
    PrinterCallback,
    ProcessorMixin,
    set_seed,
)

from .. import demo, metrics, progress
from ..data import (
    ImageCollator,
    ImageFeatures,
    RandomResizedCropFlip,
    SkippedImage,
    few_shot,
    load_image_dataset,
    template_of,
)
from ..together.training import why_arguments_alone
from ..together.weights import copy_with_same_weights
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners import CLIPPromptConfig
from ..tuners.image_encoder import ImageEncoder
from ..tuners.sharding import place_model, place_original
from .arguments import (
    CLIPPromptArguments,
    ExperimentArguments,
    check_at_least,
    check_shots,
    code_to_load,
    naming_model,
)
from .experiment import Experiment
from .images import Images, Pixels, class_names, fingerprint_on_main, load_in_order
from .manuals.manual import option_field
from .manuals.shared import ALL, CLIP, VIEWS
from .methods import Method
from .publishing import Publication
from .recipes import OWN
from .reporting import ReportsProgress
from .results import Result, Results
from .smoke import IMAGES, with_few_images
from .threads import threads_that_pay, work_of_images


logger = logging.getLogger(__name__)

ENCODED_AT_A_TIME = 64
"""How many images are encoded at a time."""

TOKENS_OF_A_TEXT = 4
"""The tokens of a class's text behind those that all classes share, in the mean: its name, a full stop and EOS."""


@dataclass
class CLIPDataArguments(ExperimentArguments):
    """The arguments of protocols that classify with CLIP, but for how many images are learned from."""

    suites = {"all": tuple(demo.UNFAMILIAR_TASKS), "familiar": tuple(demo.FAMILIAR_TASKS)}

    model: str = option_field(CLIP["model"], str(demo.CLIP_PATH))
    dataset: list[str] = option_field(CLIP["dataset"])
    template: str | None = option_field(CLIP["template"])
    cache_features: str | None = option_field(CLIP["cache_features"])
    augmented_views: int | None = option_field(CLIP["augmented_views"])
    together: str = option_field(CLIP["together"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, augmented_views=self.augmented_views)
        if self.cache_features == "no" and self.augmented_views is not None:
            raise ValueError(
                "--augmented_views says how many views of an image have their features cached, and with "
                "--cache_features no there are new ones in every step; leave one of the two out."
            )


@dataclass
class CLIPArguments(CLIPDataArguments):
    """The arguments of protocols that classify with CLIP."""

    shots: str = option_field(CLIP["shots"])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shots([self.shots])

    def shrink(self) -> None:
        super().shrink()
        self.shots = str(min(self.number_of_shots or IMAGES, IMAGES))

    @property
    def number_of_shots(self) -> int | None:
        """The training images per class; None for all that there are."""
        return None if self.shots == ALL else int(self.shots)


class CLIPTrainer(SharpPromptTrainer):
    """Classifies each evaluation set among its own class names.

    Args:
        evaluation_sets: The images to measure on, by name.
        processor: CLIP's processor.
        templates: The text around a class name, by evaluation set. Default: the adapter's for all.
        *args, **options: As of the Trainer.
    """

    def __init__(
        self,
        *args: Any,
        evaluation_sets: Mapping[str, Images],
        processor: ProcessorMixin,
        templates: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, eval_dataset=dict(evaluation_sets), **options)
        self.evaluation_sets, self.processor, self.templates = evaluation_sets, processor, templates or {}

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        images = self.evaluation_sets[eval_dataset]
        return self.accelerator.prepare(load_in_order(images, ImageCollator(self.processor), self.args))

    def evaluation_loop(self, dataloader: DataLoader[Any], *args: Any, **options: Any) -> Any:
        model: Any = self.model  # PEFT forwards what a tuner has, unseen by type checkers.
        name = options["metric_key_prefix"].removeprefix("eval_")
        template = self.templates.get(name, model.active_config.class_template)
        with model.using_classes(class_names(dataloader.dataset), self.processor, template):  # type: ignore[arg-type]
            return super().evaluation_loop(dataloader, *args, **options)


class CLIPImages:
    """A data set's images, as pixels and as the frozen image tower of CLIP sees them.

    The experiments on one data set share it, so that its images are read and encoded once.

    Args:
        dataset: The data set, as the command line names it.
        args: The experiments' arguments.
        num_workers: How many workers decode images.
        load: Loads the splits of the data set with the arguments of `load_image_dataset` that it is called with.
            Default: [`load_to_measure`].

    Attributes:
        splits: The data set's splits.
        skipped: The images that were left out because they cannot be read.
        template: The hand-written prompt of zero-shot CLIP.
        cache: Where features are kept: in `memory`, on `disk`, or `no`, where there are none.
        views: The views of each training image whose features are cached; None where every step draws its own.
        keeps_pixels: Whether images are decoded once and kept as the model takes them; the demo's are small.
    """

    def __init__(
        self,
        dataset: str,
        args: CLIPDataArguments,
        num_workers: int,
        load: Callable[..., datasets.DatasetDict] | None = None,
    ) -> None:
        self.args, self.num_workers = args, num_workers
        self.skipped: list[SkippedImage] = []
        progress.report("reading")
        task, views = demo.TASKS.get(dataset), args.augmented_views
        self.cache = args.cache_features or ("memory" if task or views is not None else "no")
        self.views = None if self.cache == "no" else views if views is not None else 0 if task else VIEWS
        check_is_clip(args.model)
        with PartialState().main_process_first():
            self.splits = (load or load_to_measure)(dataset, args, **args.loading, skipped=self.skipped)
            with naming_model(args.model):
                self.processor = AutoProcessor.from_pretrained(args.model)
        self.template = find_template(dataset, args)
        self._measured: dict[str, ImageFeatures] = {}
        self.keeps_pixels = task is not None and self.cache == "memory"
        self._decoded: dict[str, Pixels] = {}

    @cached_property
    def model(self) -> CLIPModel:
        """The CLIP as it was loaded, for all experiments on the data set."""
        model = CLIPModel.from_pretrained(self.args.model).eval()
        place_original(model, PartialState().device)
        return model

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The frozen image tower."""
        model = copy_with_same_weights(self.model).requires_grad_(False)
        place_model(model, PartialState().device)
        return ImageEncoder(model)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the splits that are trained and measured on."""
        return fingerprint_on_main(
            datasets.DatasetDict({name: self.splits[name] for name in ("train", self.args.eval_split)})
        )

    @property
    def crop_size(self) -> int:
        """The height of the images that CLIP takes, in pixels."""
        return self.processor.image_processor.crop_size["height"]

    def encode(
        self, images: datasets.Dataset, collator: ImageCollator, views: int = 1, seed: int = 0
    ) -> ImageFeatures:
        """Encode images as the frozen image tower sees them."""
        encode = ImageFeatures.cached if self.cache == "disk" else ImageFeatures.compute
        with threads_that_pay(work_of_images(self.model.vision_model.config, ENCODED_AT_A_TIME)):
            return encode(
                images,
                self.encoder,
                collator,
                views,
                seed,
                batch_size=ENCODED_AT_A_TIME,
                num_workers=self.num_workers,
            )

    def encode_to_measure(self, name: str, images: datasets.Dataset) -> ImageFeatures:
        """Encode the images to measure on that have this name, once."""
        if name not in self._measured:
            self._measured[name] = self.encode(images, ImageCollator(self.processor))
        return self._measured[name]

    def decode_to_measure(self, name: str, images: datasets.Dataset) -> Images:
        """Decode the images to measure on that have this name, once where pixels are kept."""
        if not self.keeps_pixels:
            return images
        if name not in self._decoded:
            self._decoded[name] = Pixels(images, ImageCollator(self.processor))
        return self._decoded[name]


class CLIPExperiment(Experiment[CLIPPromptArguments, CLIPTrainer]):
    """One data set, its images as pixels and as the frozen image tower sees them, and CLIP's prompts.

    Args:
        dataset: The data set, as the command line names it.
        args: The experiment's arguments.
        training: Training arguments: the output directory, and how many workers decode images.
        images: The data set's images, if another experiment has loaded them.

    Attributes:
        images: The data set's images.
    """

    def __init__(
        self,
        dataset: str,
        args: CLIPArguments,
        training: SharpPromptTrainingArguments,
        images: CLIPImages | None = None,
    ) -> None:
        super().__init__(dataset, args, training)
        self.args = args
        self.images = images or CLIPImages(dataset, args, training.dataloader_num_workers)
        self.skipped = self.images.skipped
        self._training_images: dict[tuple[int, bool], Images] = {}

    @property
    def splits(self) -> datasets.DatasetDict:
        """The data set's splits."""
        return self.images.splits

    @property
    @abstractmethod
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        """The images to measure on, by name."""

    @property
    def templates(self) -> dict[str, str]:
        """The hand-written prompts of zero-shot CLIP, by the name of the images to measure on."""
        return dict.fromkeys(self.evaluation_pixels, self.images.template)

    @property
    def novel_class_names(self) -> str | list[str]:
        """What the objectives take that ask for novel class names: names, or the name of a list of them."""
        return "imagenet_100"

    def draw_images(self, seed: int) -> datasets.Dataset:
        """Draw the images to learn from, of all classes."""
        return self.draw_shots(seed)["train"]

    def draw_shots(self, seed: int) -> datasets.DatasetDict:
        """Draw as many training images of each class as there are shots."""
        shots = self.args.number_of_shots
        return self.splits if shots is None else few_shot(self.splits, shots, seed)

    @property
    def model(self) -> CLIPModel:
        return self.images.model

    def code_of_model(self) -> list[str]:
        return code_to_load("CLIPModel", self.args.model, "CLIP_PATH", demo.CLIP_PATH)

    def data_fingerprint(self) -> str:
        return self.images.fingerprint

    def settings(self) -> dict[str, Any]:
        shots = self.args.number_of_shots or ALL
        return {"shots": shots, "eval_split": self.args.eval_split, "augmented_views": self.images.views}

    def setting(self) -> dict[str, Any]:
        return {"shots": self.args.number_of_shots or ALL, **super().setting()}

    def decodes_images(self, method: Method[CLIPPromptArguments]) -> bool:
        return self._learns_from_pixels(method) and not self._decodes_once

    def _learns_from_pixels(self, method: Method[CLIPPromptArguments]) -> bool:
        return self.images.views is None or method.prompt.learns_in_image_tower

    @property
    def _decodes_once(self) -> bool:
        """Whether the images to learn from stay the same, and are kept as the model takes them."""
        return self.images.keeps_pixels and self.images.views == 0

    @property
    def together(self) -> str:
        return self.args.together

    def why_alone(self, method: Method[CLIPPromptArguments], training: SharpPromptTrainingArguments) -> str | None:
        if self._learns_from_pixels(method):
            return "its images are encoded in every step"
        if method.prompt.conditional:
            return "its context is conditioned on images"
        if method.prompt.class_token_position != "end":
            return "its class names do not all stand behind the same context"
        return why_arguments_alone(training)

    def training_of(self, method: Method[CLIPPromptArguments], seed: int) -> SharpPromptTrainingArguments:
        training = super().training_of(method, seed)
        training.objectives = self.with_novel_class_names(training.objectives)
        return training

    def with_novel_class_names(self, objectives: Any) -> Any:
        """Objectives with the novel class names where they say `novel_class_names: own`."""
        if not isinstance(objectives, dict):
            return objectives
        names = {"novel_class_names": self.novel_class_names}
        return {
            name: {**values, **names} if (values or {}).get("novel_class_names") == OWN else values
            for name, values in objectives.items()
        }

    @property
    def evaluation_features(self) -> dict[str, ImageFeatures]:
        """The features of the images to measure on, by name."""
        return {name: self.images.encode_to_measure(name, images) for name, images in self.evaluation_pixels.items()}

    def images_to_measure(self, method: Method[CLIPPromptArguments]) -> Mapping[str, Images]:
        """The images to measure a method on: pixels, if it changes their features."""
        if not method.prompt.learns_in_image_tower:
            return self.evaluation_features
        return {name: self.images.decode_to_measure(name, images) for name, images in self.evaluation_pixels.items()}

    def images_to_train_on(self, method: Method[CLIPPromptArguments], seed: int) -> tuple[Images, ImageCollator]:
        """The images that a method learns from, encoded unless every step draws its own views; and their collator."""
        views, crop = self.images.views, RandomResizedCropFlip(self.images.crop_size)
        collator = ImageCollator(self.images.processor, None if views == 0 else crop)
        as_pixels = self._learns_from_pixels(method)
        if self.args.number_of_shots is None and (as_pixels or views == 0):
            seed = 0  # All images as they are, which are the same ones for every seed.
        if (seed, as_pixels) not in self._training_images:
            drawn = self.draw_images(seed)
            images: Images = drawn
            if not as_pixels:
                images = self.images.encode(drawn, collator, views or 1, seed)
            elif self._decodes_once:
                images = Pixels(drawn, collator)
            self._training_images[seed, as_pixels] = images
        return self._training_images[seed, as_pixels], collator

    def run(
        self, methods: Sequence[Method[CLIPPromptArguments]], console: Console, command: str = ""
    ) -> tuple[Results, list[Publication]]:
        for method in methods:
            if method.prompt.learns_in_image_tower and self.images.cache != "no":
                logger.warning(f"{method.name} learns tokens in the image tower: images are encoded in every step.")
        return super().run(methods, console, command)

    def prepare(self, method: Method[CLIPPromptArguments], seed: int) -> None:
        self.images_to_train_on(method, seed)
        self.images_to_measure(method)

    def work_of(self, method: Method[CLIPPromptArguments]) -> int:
        prompt, training = method.prompt, method.training
        rows = training.train_batch_size * training.gradient_accumulation_steps
        classes = len(class_names(self.splits["train"])) * (rows if prompt.conditional else 1)
        texts = (prompt.num_text_tokens + classes * TOKENS_OF_A_TEXT) * self.model.text_model.config.hidden_size**2
        if not self._learns_from_pixels(method):
            return texts
        return max(texts, work_of_images(self.model.vision_model.config, rows))

    def measure_baselines(self, training: SharpPromptTrainingArguments) -> Results:
        """Measure zero-shot CLIP with the hand-written prompt, as the learned ones are measured."""
        model = get_peft_model(self.load_model(), CLIPPromptConfig())
        training = dataclasses.replace(training, output_dir=str(self.directory), push_to_hub=False, objectives=None)
        trainer = self.trainer_of(model, training, self.evaluation_features, templates=self.templates)
        with model.disable_adapter():
            return {"zero-shot": [self.measure(trainer)]}

    def make_trainer(self, method: Method[CLIPPromptArguments], training: SharpPromptTrainingArguments) -> CLIPTrainer:
        images, collator = self.images_to_train_on(method, training.seed)
        set_seed(training.seed)
        prompt = dict(vars(method.prompt))
        class_template = prompt.pop("class_template")
        model = get_peft_model(self.load_model(), CLIPPromptConfig(**prompt))
        model.set_classes(class_names(images), self.images.processor, class_template)
        measured = self.images_to_measure(method)
        return self.trainer_of(model, training, measured, data_collator=collator, train_dataset=images)

    def load_trainer(self, method: Method[CLIPPromptArguments], training: SharpPromptTrainingArguments) -> CLIPTrainer:
        model = PeftModel.from_pretrained(self.load_model(), self.directory_of(method, training.seed))
        return self.trainer_of(model, training, self.images_to_measure(method))

    def trainer_of(
        self,
        model: Any,
        training: SharpPromptTrainingArguments,
        evaluation_sets: Mapping[str, Images],
        **options: Any,
    ) -> CLIPTrainer:
        """Make a Trainer of a model with an adapter."""
        trainer = CLIPTrainer(
            model,
            training,
            evaluation_sets=evaluation_sets,
            processor=self.images.processor,
            compute_metrics=judge,
            **options,
        )
        trainer.remove_callback(PrinterCallback)  # A line for each run says enough.
        trainer.add_callback(ReportsProgress())
        return trainer


def judge(prediction: EvalPrediction) -> Result:
    """The accuracy of logits and labels, and how well the classifier knows it: the expected calibration error."""
    calibration = metrics.compute("expected_calibration_error", prediction)
    return metrics.compute("per_class_accuracy", prediction) | {"ece": calibration["expected_calibration_error"]}


def load_to_measure(dataset: str, args: CLIPDataArguments, **loading: Any) -> datasets.DatasetDict:
    """Load a data set that is measured on.

    Args:
        dataset: The data set, as the command line names it.
        args: The experiments' arguments.
        **loading: Arguments of `load_image_dataset`.

    Raises:
        ValueError: It cannot be loaded, or lacks the split to measure on.
    """
    splits = load_image_dataset(dataset, **loading)
    if args.eval_split not in splits:
        raise ValueError(f"{dataset} has no {args.eval_split} split; it has {', '.join(splits)}.")
    return with_few_images(splits) if args.smoke else splits


def find_template(dataset: str, args: CLIPDataArguments) -> str:
    """Find the hand-written prompt of a data set for zero-shot CLIP."""
    return args.template or template_of(dataset, args.data_root) or "a photo of a {}."


def check_is_clip(model: str) -> None:
    """Refuse another kind of model, of which CLIP's loader would make one with random weights."""
    with naming_model(model):
        kind = AutoConfig.from_pretrained(model).model_type
    if kind != "clip":
        raise ValueError(f"--model {model} is a model of the type {kind!r}, but this experiment is CLIP's.")
