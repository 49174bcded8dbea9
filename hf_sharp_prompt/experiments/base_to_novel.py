"""Base-to-novel generalisation: the data, the runs and the tables of one experiment."""

from __future__ import annotations

import dataclasses
import logging
import sys
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import harmonic_mean, mean
from typing import Any

import datasets
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict
from peft import PeftModel, get_peft_model
from rich.console import Console
from rich.table import Column, Table
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoProcessor, CLIPModel, PrinterCallback, ProcessorMixin, set_seed

from .. import demo, metrics
from ..data import (
    ImageCollator,
    ImageFeatures,
    RandomResizedCropFlip,
    base_to_novel,
    few_shot,
    find_facts,
    fingerprint,
    load_image_dataset,
)
from ..plots import plot_accuracy_by_epoch
from ..printable import printable
from ..training.arguments import SharpPromptTrainingArguments
from ..training.trainer import SharpPromptTrainer
from ..tuners import CLIPPromptConfig
from ..tuners.image_encoder import ImageEncoder
from .command_line import (
    Method,
    check_at_least,
    check_names_of_data,
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
    collect,
    in_percent,
    name_of_row,
    succeeded,
    write_json,
)
from .runs import Run, check_directories, fingerprint_of_model, identify, run_all


logger = logging.getLogger(__name__)

DEFAULTS = {"output_dir": "runs/base2novel", "eval_strategy": "epoch"}
VIEWS = 10  # of each training image whose features are cached, where the papers have a new one in every step
HALVES = ("base", "novel")
OWN = "own"  # the novel class names of the data set itself
COLUMNS = {"base": "base", "novel": "novel", "HM": "hm"}


@dataclass
class ExperimentArguments:
    model: str = field(
        default=str(demo.CLIP_PATH),
        metadata={"help": "A CLIP checkpoint: a Hub id or a directory. Default: the embedded demo's."},
    )
    dataset: list[str] = field(
        default_factory=lambda: [demo.DEFAULT_TASK],
        metadata={
            "help": "One or more of: a Hub id, a folder in imagefolder layout, a data set saved with save_to_disk, a "
            f"task of the embedded demo ({', '.join(demo.TASKS)}), or 'all' for all of the demo's."
        },
    )
    image_column: str | None = field(
        default=None, metadata={"help": "The column of the images. Default: the one whose feature is an Image."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "The column of the labels. Default: the one whose feature is a ClassLabel."}
    )
    template: str | None = field(
        default=None,
        metadata={
            "help": "The hand-written prompt of zero-shot CLIP. Default: the data set's own, or 'a photo of a {}.'."
        },
    )
    recipes: list[str] = field(
        default_factory=lambda: ["coop", "coop_sam", "gcscoop"],
        metadata={"help": "The methods to run: names of files in examples/recipes, or paths of YAML files like them."},
    )
    shots: int = field(default=16, metadata={"help": "Training images per class."})
    seeds: list[int] = field(
        default_factory=lambda: [1, 2, 3],
        metadata={"help": "Seeds, each one run per method: of the shots, the initialisation and the order."},
    )
    eval_split: str = field(
        default="test",
        metadata={"help": "The split to measure on: test, or validation to choose hyperparameters."},
    )
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
        check_at_least(1, shots=self.shots)
        check_at_least(0, augmented_views=self.augmented_views)
        check_seeds(self.seeds)
        check_names_of_data(self.dataset)

    @property
    def datasets(self) -> list[str]:
        """The data sets, each by its name."""
        return list(demo.TASKS) if self.dataset == ["all"] else self.dataset


@dataclass
class PromptArguments:
    num_text_tokens: int = field(default=4, metadata={"help": "Number of learned context tokens."})
    text_init: str | None = field(
        default=None, metadata={"help": "Words whose embeddings initialise the context. Default: random."}
    )
    text_init_rest: str = field(
        default="normal",
        metadata={"help": "The context tokens that text_init does not reach.", "choices": ["normal", "zeros"]},
    )
    text_depth: int = field(default=1, metadata={"help": "Text layers that get tokens of their own."})
    class_token_position: str = field(
        default="end",
        metadata={"help": "Where the text stands in the context.", "choices": ["end", "middle", "front"]},
    )
    conditional: bool = field(
        default=False, metadata={"help": "Shift the context by what a meta-net makes of the image (CoCoOp)."}
    )
    class_template: str = field(
        default="{}.", metadata={"help": "The text after the context tokens; {} is the class name."}
    )
    num_vision_tokens: int = field(
        default=0, metadata={"help": "Number of learned tokens in the image tower; images are then never cached."}
    )
    vision_depth: int = field(default=1, metadata={"help": "Image layers that get tokens of their own."})
    coupled: bool = field(
        default=False, metadata={"help": "Make the vision tokens from the text tokens by linear maps (MaPLe)."}
    )

    @property
    def learns_in_image_tower(self) -> bool:
        """Whether an image's features change in training, so that pixels have to be trained on."""
        return self.num_vision_tokens > 0


Images = Dataset | ImageFeatures


def class_names(images: Images) -> list[str]:
    return images.class_names if isinstance(images, ImageFeatures) else images.features["label"].names


def load_in_order(images: Images, processor: ProcessorMixin, training: SharpPromptTrainingArguments) -> DataLoader:
    """Batches to measure on: not augmented, and decoded in workers if there is anything to decode."""
    return DataLoader(
        images,
        training.eval_batch_size,
        collate_fn=ImageCollator(processor),
        num_workers=0 if isinstance(images, ImageFeatures) else training.dataloader_num_workers,
        pin_memory=training.dataloader_pin_memory,
    )


class BaseToNovelTrainer(SharpPromptTrainer):
    """Classifies each evaluation set among its own class names: base images among base, novel among novel ones."""

    def __init__(self, *args: Any, processor: ProcessorMixin, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.processor = processor

    def get_eval_dataloader(self, eval_dataset: str) -> DataLoader:
        return self.accelerator.prepare(load_in_order(self.eval_dataset[eval_dataset], self.processor, self.args))

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        template = self.model.active_config.class_template
        with self.model.using_classes(class_names(dataloader.dataset), self.processor, template):
            return super().evaluation_loop(dataloader, *args, **kwargs)


class Experiment:
    """One data set, its images as pixels and as the frozen image tower sees them, and where its results go."""

    def __init__(self, dataset: str, args: ExperimentArguments, output_dir: str, num_workers: int) -> None:
        task = demo.TASKS.get(dataset)
        self.dataset, self.args, self.num_workers = dataset, args, num_workers
        self.name = name_of_data(dataset)
        self.directory = Path(output_dir, self.name)
        check_is_clip(args.model)
        self.template = args.template or find_facts(dataset).template or "a photo of a {}."
        views = args.augmented_views
        self.cache = args.cache_features or ("memory" if task or views is not None else "no")
        if self.cache == "no" and views is not None:
            raise ValueError(
                "--augmented_views says how many views of an image have their features cached, and with "
                "--cache_features no there are new ones in every step; leave one of the two out."
            )
        # None: new ones in every step.
        self.views = None if self.cache == "no" else views if views is not None else 0 if task else VIEWS
        with PartialState().main_process_first():
            self.splits = load_image_dataset(dataset, args.image_column, args.label_column)
            with naming_model(args.model):
                self.processor = AutoProcessor.from_pretrained(args.model)
        if args.eval_split not in self.splits:
            raise ValueError(f"{dataset} has no {args.eval_split} split; it has {', '.join(self.splits)}.")
        halves = dict(zip(HALVES, base_to_novel(self.splits)))
        self.evaluation_pixels = {half: splits[args.eval_split] for half, splits in halves.items()}
        self.training: dict[tuple[int, bool], Images] = {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What all runs have in common: other data or another model under the same name make another experiment."""
        args = self.args
        used = DatasetDict({name: self.splits[name] for name in ("train", args.eval_split)})
        (data,) = broadcast_object_list([fingerprint(used) if PartialState().is_main_process else None])
        return {
            "model_fingerprint": fingerprint_of_model(self.load_clip()),
            "data_fingerprint": data,
            "shots": args.shots,
            "eval_split": args.eval_split,
            "augmented_views": self.views,
        }

    def load_clip(self) -> CLIPModel:
        return CLIPModel.from_pretrained(self.args.model).eval()

    @cached_property
    def encoder(self) -> ImageEncoder:
        return ImageEncoder(self.load_clip().to(PartialState().device))

    @cached_property
    def evaluation_features(self) -> dict[str, ImageFeatures]:
        collator = ImageCollator(self.processor)
        return {half: self.encode(images, collator) for half, images in self.evaluation_pixels.items()}

    def encode(self, images: Dataset, collator: ImageCollator, views: int = 1, seed: int = 0) -> ImageFeatures:
        if sys.stderr.isatty():
            datasets.enable_progress_bars()  # for this one, which may take long
        encode = ImageFeatures.cached if self.cache == "disk" else ImageFeatures.compute
        features = encode(images, self.encoder, collator, views, seed, num_workers=self.num_workers)
        datasets.disable_progress_bars()
        return features

    def fill_in(self, objectives: Any) -> Any:
        """Objectives with the data set's own novel class names where they say `novel_class_names: own`."""
        if not isinstance(objectives, dict):
            return objectives
        novel = class_names(self.evaluation_pixels["novel"])
        return {
            name: {**given, "novel_class_names": novel} if (given or {}).get("novel_class_names") == OWN else given
            for name, given in objectives.items()
        }

    def images_to_measure(self, method: Method) -> dict[str, Images]:
        return self.evaluation_pixels if method.prompt.learns_in_image_tower else self.evaluation_features

    def trains_on_features(self, method: Method) -> bool:
        return self.views is not None and not method.prompt.learns_in_image_tower

    def draw_shots(self, seed: int, method: Method) -> tuple[Images, ImageCollator]:
        """The base classes' training images, encoded unless every step draws its own, and what batches them."""
        size = self.processor.image_processor.crop_size["height"]
        collator = ImageCollator(self.processor, None if self.views == 0 else RandomResizedCropFlip(size))
        as_pixels = not self.trains_on_features(method)
        if (seed, as_pixels) not in self.training:
            base, _ = base_to_novel(few_shot(self.splits, self.args.shots, seed))
            train = base["train"]
            self.training[seed, as_pixels] = (
                train if as_pixels else self.encode(train, collator, max(self.views, 1), seed)
            )
        return self.training[seed, as_pixels], collator


def check_is_clip(model: str) -> None:
    """Refuse another kind of model, of which CLIP's loader would make one with random weights."""
    with naming_model(model):
        kind = AutoConfig.from_pretrained(model).model_type
    if kind != "clip":
        raise ValueError(f"--model {model} is a model of the type {kind!r}, but this experiment is CLIP's.")


def load_experiments(args: ExperimentArguments, methods: list[Method]) -> list[Experiment]:
    """All of a command's, and make sure that each can be run, before the first begins."""
    training = methods[0].training
    loaded = [
        Experiment(dataset, args, training.output_dir, training.dataloader_num_workers) for dataset in args.datasets
    ]
    for experiment in loaded:
        check_directories(list_runs(experiment, methods))
    return loaded


def run_methods(experiment: Experiment, methods: list[Method], console: Console) -> tuple[Results, list[Publication]]:
    """Do an experiment's runs and write its summary.

    Returns:
        By method, the results of its runs, one per seed: zero-shot CLIP's first, then those of the methods, then what
        earlier commands left of others; and the runs' publications.
    """
    runs = list_runs(experiment, methods)
    zero_shot = measure_zero_shot(experiment, methods[0].training)
    for method in methods:
        if method.prompt.learns_in_image_tower and experiment.cache != "no":
            logger.warning(f"{method.name} learns tokens in the image tower: images are encoded in every step.")
    done = run_all(runs, console, COLUMNS)
    results = {"zero-shot": [zero_shot], **collect(experiment.directory, experiment.identity, done)}
    if PartialState().is_main_process:
        write_json(experiment.directory / "summary.json", results)
    return results, [run.publication for run in runs if run.publication is not None]


def parse_arguments(argv: list[str], recipes: Path, description: str) -> tuple[ExperimentArguments, list[Method]]:
    """Read a script's command line; see `parse_methods`."""
    kinds = (ExperimentArguments, PromptArguments, SharpPromptTrainingArguments)
    return parse_methods(kinds, make_defaults() | DEFAULTS, recipes, on_demo, description, argv)


def on_demo(args: ExperimentArguments) -> bool:
    return all(dataset in {"all", *demo.TASKS} for dataset in args.dataset)


def list_runs(experiment: Experiment, methods: list[Method]) -> list[Run]:
    return [make_run(experiment, method, seed) for method in methods for seed in experiment.args.seeds]


def make_run(experiment: Experiment, method: Method, seed: int) -> Run:
    """One method with one seed. The result: accuracies "base" and "novel" and their harmonic mean "hm", these by epoch
    in "history", and the "cosines" between gradient and perturbed gradient."""
    directory = experiment.directory / method.name / f"seed{seed}"
    given, in_memory = method.training, experiment.trains_on_features(method)
    training = training_of_run(method, seed, directory, experiment.dataset, in_memory)
    training.objectives = experiment.fill_in(training.objectives)
    return Run(
        method.name,
        seed,
        f"{experiment.name}, {method.name}, seed {seed}",
        directory,
        identify(experiment.identity, dataclasses.asdict(method.prompt), training),
        make_trainer=lambda: make_trainer(experiment, method, training),
        load_trainer=lambda: load_trainer(experiment, method, training),
        measure=measure_halves,
        measured=list(COLUMNS.values()),
        publication=Publication(directory, training.hub_model_id, given.hub_token, given.hub_private_repo)
        if given.push_to_hub
        else None,
    )


def make_trainer(experiment: Experiment, method: Method, training: SharpPromptTrainingArguments) -> BaseToNovelTrainer:
    """The Trainer of a new prompt."""
    train_dataset, collator = experiment.draw_shots(training.seed, method)
    set_seed(training.seed)
    prompt = dataclasses.asdict(method.prompt)
    class_template = prompt.pop("class_template")
    model = get_peft_model(experiment.load_clip(), CLIPPromptConfig(**prompt))
    model.set_classes(class_names(train_dataset), experiment.processor, class_template)
    images = experiment.images_to_measure(method)
    return trainer_of(model, training, images, experiment, data_collator=collator, train_dataset=train_dataset)


def load_trainer(experiment: Experiment, method: Method, training: SharpPromptTrainingArguments) -> BaseToNovelTrainer:
    """A Trainer of what a run saved, on a fresh base model; it measures as the run's own does."""
    model = PeftModel.from_pretrained(experiment.load_clip(), training.output_dir)
    return trainer_of(model, training, experiment.images_to_measure(method), experiment)


def trainer_of(
    model: PeftModel,
    training: SharpPromptTrainingArguments,
    images: dict[str, Images],
    experiment: Experiment,
    **data: Any,
) -> BaseToNovelTrainer:
    trainer = BaseToNovelTrainer(
        model,
        training,
        eval_dataset=images,
        compute_metrics=partial(metrics.compute, "per_class_accuracy"),
        processor=experiment.processor,
        **data,
    )
    trainer.remove_callback(PrinterCallback)  # a line per run says enough
    return trainer


def measure_zero_shot(experiment: Experiment, training: SharpPromptTrainingArguments) -> Result:
    """What CLIP reaches with the hand-written prompt, measured as the learned ones are."""
    config = CLIPPromptConfig(class_template=experiment.template)
    model = get_peft_model(experiment.load_clip(), config)
    training = dataclasses.replace(training, output_dir=str(experiment.directory), push_to_hub=False)
    with model.disable_adapter():
        return measure_halves(trainer_of(model, training, experiment.evaluation_features, experiment))


def measure_halves(trainer: BaseToNovelTrainer) -> Result:
    """The accuracies on both halves at the end, and by epoch as far as they were measured on the way."""
    measured_at = [entry["step"] for entry in trainer.state.log_history if "eval_base_accuracy" in entry]
    if measured_at[-1:] != [trainer.state.global_step]:
        trainer.evaluate()
    log = trainer.state.log_history
    history = {half: [entry[key] for entry in log if (key := f"eval_{half}_accuracy") in entry] for half in HALVES}
    return with_harmonic_mean({half: by_epoch[-1] for half, by_epoch in history.items()}) | {
        "history": history,
        "cosines": [entry["cosine"] for entry in log if "cosine" in entry],
    }


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
    by_seed = [{run.get("seed"): run for run in succeeded(of.get(method, []))} for of in results]
    return [tuple(of[seed] for of in by_seed) for seed in by_seed[0] if all(seed in of for of in by_seed)]


def make_table(title: str, results: Results) -> Table:
    table = Table(Column("method", no_wrap=True), *COLUMNS, "seconds a run", title=title, title_justify="left")
    for name, runs in results.items():
        finished = succeeded(runs)
        accuracies = [in_percent([run[column] for run in finished]) for column in COLUMNS.values()]
        seconds = mean(run.get("seconds", 0) for run in finished) if finished else 0
        table.add_row(name_of_row(name, runs), *accuracies, f"{seconds:.1f}" if seconds else "")
    return table


def draw_by_epoch(experiment: Experiment, results: Results) -> None:
    """Draw the accuracies by epoch into `accuracy_by_epoch.png` of the experiment's directory."""
    plot_accuracy_by_epoch(
        {name: histories for name, runs in results.items() if (histories := histories_of(runs))},
        experiment.directory / "accuracy_by_epoch.png",
        title=printable(f"{experiment.name}, {experiment.args.shots} shots"),
    )
