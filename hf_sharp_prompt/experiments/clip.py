"""Prompts of CLIP on one data set: its images as pixels and as features, the Trainer, and zero-shot CLIP beside it.

Every protocol that classifies with CLIP subclasses [`CLIPExperiment`]; it says which images are learned from and which
are measured on.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import datasets
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from rich.console import Console
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoProcessor, CLIPModel, PrinterCallback, ProcessorMixin, set_seed

from .. import demo, metrics, progress
from ..data import ImageCollator, ImageFeatures, RandomResizedCropFlip, find_facts, load_image_dataset
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners import CLIPPromptConfig
from ..tuners.image_encoder import ImageEncoder
from .arguments import CLIPPromptArguments, ExperimentArguments, check_at_least, describe_dataset, naming_model
from .experiment import Experiment
from .images import Images, class_names, load_in_order
from .methods import Method
from .publishing import Publication
from .reporting import ReportsProgress
from .results import Results


logger = logging.getLogger(__name__)

VIEWS = 10  # Views of each training image whose features are cached; the papers draw a new one in every step.


@dataclass
class CLIPArguments(ExperimentArguments):
    """The arguments of protocols that classify with CLIP."""

    demo_tasks = tuple(demo.TASKS)

    model: str = field(
        default=str(demo.CLIP_PATH),
        metadata={"help": "A CLIP checkpoint: a Hub id or a directory. Default: the embedded demo's."},
    )
    dataset: list[str] = field(
        default_factory=lambda: [demo.DEFAULT_TASK], metadata={"help": describe_dataset(demo.TASKS)}
    )
    template: str | None = field(
        default=None,
        metadata={
            "help": "The hand-written prompt of zero-shot CLIP. Default: the data set's own, or 'a photo of a {}.'."
        },
    )
    shots: int = field(default=16, metadata={"help": "Training images per class."})
    cache_features: str | None = field(
        default=None,
        metadata={
            "help": "Encode each image once, and train and measure on its features, kept in memory or, for later runs "
            "as well, on disk (in HF_ASSETS_CACHE), which is what the flag alone means. With 'no', training images "
            "are augmented and encoded again in every step, as in the papers. Default: memory on the demo or with "
            "--augmented_views, else no.",
            "choices": ["memory", "disk", "no"],
            "nargs": "?",
            "const": "disk",
        },
    )
    augmented_views: int | None = field(
        default=None,
        metadata={
            "help": "How many randomly cropped and flipped views of each training image have their features cached, "
            f"each step drawing one; 0 is the image as it is. Default: 0 on the demo, else {VIEWS}."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, shots=self.shots)
        check_at_least(0, augmented_views=self.augmented_views)
        if self.cache_features == "no" and self.augmented_views is not None:
            raise ValueError(
                "--augmented_views says how many views of an image have their features cached, and with "
                "--cache_features no there are new ones in every step; leave one of the two out."
            )


class CLIPTrainer(SharpPromptTrainer):
    """Classifies each evaluation set among its own class names.

    Args:
        evaluation_sets: The images to measure on, by name.
        processor: CLIP's processor.
        *args, **options: As of the Trainer.
    """

    def __init__(
        self, *args: Any, evaluation_sets: Mapping[str, Images], processor: ProcessorMixin, **options: Any
    ) -> None:
        super().__init__(*args, eval_dataset=dict(evaluation_sets), **options)
        self.evaluation_sets, self.processor = evaluation_sets, processor

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        images = self.evaluation_sets[eval_dataset]
        return self.accelerator.prepare(load_in_order(images, ImageCollator(self.processor), self.args))

    def evaluation_loop(self, dataloader: DataLoader[Any], *args: Any, **options: Any) -> Any:
        model: Any = self.model  # PEFT forwards what a tuner has, unseen by type checkers.
        template = model.active_config.class_template
        with model.using_classes(class_names(dataloader.dataset), self.processor, template):  # type: ignore[arg-type]
            return super().evaluation_loop(dataloader, *args, **options)


class CLIPExperiment(Experiment[CLIPPromptArguments, CLIPTrainer]):
    """One data set, its images as pixels and as the frozen image tower sees them, and CLIP's prompts.

    Args:
        dataset: The data set, as the command line names it.
        args: The experiment's arguments.
        training: Training arguments: the output directory, and how many workers decode images.

    Attributes:
        splits: The data set's splits.
        cache: Where features are kept: in `memory`, on `disk`, or `no`, where there are none.
        views: The views of each training image whose features are cached; None where every step draws its own.
    """

    def __init__(self, dataset: str, args: CLIPArguments, training: SharpPromptTrainingArguments) -> None:
        super().__init__(dataset, args, training)
        self.args, self.num_workers = args, training.dataloader_num_workers
        task, views = demo.TASKS.get(dataset), args.augmented_views
        self.template = args.template or find_facts(dataset).template or "a photo of a {}."
        self.cache = args.cache_features or ("memory" if task or views is not None else "no")
        self.views = None if self.cache == "no" else views if views is not None else 0 if task else VIEWS
        check_is_clip(args.model)
        with PartialState().main_process_first():
            progress.report("reading")
            self.splits = self.load_splits()
            with naming_model(args.model):
                self.processor = AutoProcessor.from_pretrained(args.model)
        if args.eval_split not in self.splits:
            raise ValueError(f"{dataset} has no {args.eval_split} split; it has {', '.join(self.splits)}.")
        self._training_images: dict[tuple[int, bool], Images] = {}

    def load_splits(self) -> datasets.DatasetDict:
        """Load the data set's splits."""
        return load_image_dataset(self.dataset, self.args.image_column, self.args.label_column)

    @property
    @abstractmethod
    def evaluation_pixels(self) -> dict[str, datasets.Dataset]:
        """The images to measure on, by name."""

    @abstractmethod
    def draw_images(self, seed: int) -> datasets.Dataset:
        """Draw the images to learn from."""

    def load_model(self) -> CLIPModel:
        return CLIPModel.from_pretrained(self.args.model).eval()

    def used_splits(self) -> datasets.DatasetDict:
        return datasets.DatasetDict({name: self.splits[name] for name in ("train", self.args.eval_split)})

    def settings(self) -> dict[str, Any]:
        return {"shots": self.args.shots, "eval_split": self.args.eval_split, "augmented_views": self.views}

    def decodes_images(self, method: Method[CLIPPromptArguments]) -> bool:
        return self.views is None or method.prompt.learns_in_image_tower

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The frozen image tower."""
        return ImageEncoder(self.load_model().to(PartialState().device))

    @cached_property
    def evaluation_features(self) -> dict[str, ImageFeatures]:
        """The features of the images to measure on, by name."""
        collator = ImageCollator(self.processor)
        return {name: self.encode(images, collator) for name, images in self.evaluation_pixels.items()}

    def encode(
        self, images: datasets.Dataset, collator: ImageCollator, views: int = 1, seed: int = 0
    ) -> ImageFeatures:
        """Encode images as the frozen image tower sees them."""
        encode = ImageFeatures.cached if self.cache == "disk" else ImageFeatures.compute
        return encode(images, self.encoder, collator, views, seed, num_workers=self.num_workers)

    def images_to_measure(self, method: Method[CLIPPromptArguments]) -> Mapping[str, Images]:
        """The images to measure a method on: pixels, if it changes their features."""
        return self.evaluation_pixels if method.prompt.learns_in_image_tower else self.evaluation_features

    def images_to_train_on(self, method: Method[CLIPPromptArguments], seed: int) -> tuple[Images, ImageCollator]:
        """The images that a method learns from, encoded unless every step draws its own views; and their collator."""
        size = self.processor.image_processor.crop_size["height"]
        collator = ImageCollator(self.processor, None if self.views == 0 else RandomResizedCropFlip(size))
        as_pixels = self.decodes_images(method)
        if (seed, as_pixels) not in self._training_images:
            images = self.draw_images(seed)
            self._training_images[seed, as_pixels] = (
                images if as_pixels else self.encode(images, collator, self.views or 1, seed)
            )
        return self._training_images[seed, as_pixels], collator

    def run(
        self, methods: Sequence[Method[CLIPPromptArguments]], console: Console
    ) -> tuple[Results, list[Publication]]:
        for method in methods:
            if method.prompt.learns_in_image_tower and self.cache != "no":
                logger.warning(f"{method.name} learns tokens in the image tower: images are encoded in every step.")
        return super().run(methods, console)

    def measure_baselines(self, training: SharpPromptTrainingArguments) -> Results:
        """Measure zero-shot CLIP with the hand-written prompt, as the learned ones are measured."""
        model = get_peft_model(self.load_model(), CLIPPromptConfig(class_template=self.template))
        training = dataclasses.replace(training, output_dir=str(self.directory), push_to_hub=False)
        with model.disable_adapter():
            return {"zero-shot": [self.measure(self.trainer_of(model, training, self.evaluation_features))]}

    def make_trainer(self, method: Method[CLIPPromptArguments], training: SharpPromptTrainingArguments) -> CLIPTrainer:
        images, collator = self.images_to_train_on(method, training.seed)
        set_seed(training.seed)
        prompt = dict(vars(method.prompt))
        class_template = prompt.pop("class_template")
        model = get_peft_model(self.load_model(), CLIPPromptConfig(**prompt))
        model.set_classes(class_names(images), self.processor, class_template)
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
            processor=self.processor,
            compute_metrics=partial(metrics.compute, "per_class_accuracy"),
            **options,
        )
        trainer.remove_callback(PrinterCallback)  # A line for each run says enough.
        trainer.add_callback(ReportsProgress())
        return trainer


def check_is_clip(model: str) -> None:
    """Refuse another kind of model, of which CLIP's loader would make one with random weights."""
    with naming_model(model):
        kind = AutoConfig.from_pretrained(model).model_type
    if kind != "clip":
        raise ValueError(f"--model {model} is a model of the type {kind!r}, but this experiment is CLIP's.")
