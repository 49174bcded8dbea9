"""What the protocols' command lines ask for: groups of arguments, their defaults, and their checks."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..tuners import CLIPPromptConfig, ViTPromptConfig
from .manuals.manual import option_field
from .manuals.shared import ALL, SHARED


@dataclass
class ExperimentArguments:
    """The arguments of every protocol: a subclass sets the defaults and adds its own."""

    suites: ClassVar[Mapping[str, Collection[str]]] = {}
    """Suites of the embedded demo's tasks that the protocol runs on: what `--dataset` calls each, and its tasks."""

    model: str = ""
    dataset: list[str] = field(default_factory=list)
    data_root: str | None = option_field(SHARED["data_root"])
    image_column: str | None = option_field(SHARED["image_column"])
    label_column: str | None = option_field(SHARED["label_column"])
    class_names: str | None = option_field(SHARED["class_names"])
    on_bad_image: str = option_field(SHARED["on_bad_image"])
    recipes: list[str] = option_field(SHARED["recipes"])
    seeds: list[int] = option_field(SHARED["seeds"])
    eval_split: str = option_field(SHARED["eval_split"])
    hub_collection: str | None = option_field(SHARED["hub_collection"])
    runs_at_once: int | None = option_field(SHARED["runs_at_once"])
    smoke: bool = option_field(SHARED["smoke"])

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        check_at_least(1, runs_at_once=self.runs_at_once)
        check_distinct([name_of_data(dataset) for dataset in self.datasets], "--dataset")
        if self.class_names is not None and len(self.datasets) > 1:
            raise ValueError(
                f"--class_names names the classes of one data set, but there are {len(self.datasets)}; run one at a "
                "time."
            )

    @property
    def loading(self) -> dict[str, Any]:
        """The arguments of `load_image_dataset` for `--dataset`."""
        return {
            "image_column": self.image_column,
            "label_column": self.label_column,
            "class_names": self.class_names,
            **self.loading_of_others,
        }

    @property
    def loading_of_others(self) -> dict[str, Any]:
        """The arguments of `load_image_dataset` for data sets that are measured on besides."""
        return {"data_root": self.data_root, "on_bad_image": self.on_bad_image}

    def shrink(self) -> None:
        """Do less: what `--smoke` asks for."""
        self.seeds = self.seeds[:1]

    @property
    def datasets(self) -> list[str]:
        """The data sets, each by its name: a suite is all its tasks."""
        return [task for dataset in self.dataset for task in self.suites.get(dataset, [dataset])]

    @property
    def on_demo(self) -> bool:
        """Whether all is on the embedded demo, so that what a recipe says for it applies."""
        demo_tasks = {task for tasks in self.suites.values() for task in tasks}
        return demo_tasks.issuperset(self.datasets)


@dataclass
class CLIPPromptArguments:
    """The fields of `CLIPPromptConfig` that recipes and command lines set."""

    design: str = field(
        default="custom",
        metadata={
            "help": "The published design of prompts that the other fields are of, for checks and the model card: "
            f"{', '.join(CLIPPromptConfig.designs.names())}."
        },
    )
    num_text_tokens: int = field(default=4, metadata={"help": "Number of learned context tokens."})
    text_init: str | None = field(
        default=None, metadata={"help": "Words whose embeddings initialise the context. Default: random."}
    )
    text_init_rest: str = field(
        default="normal",
        metadata={"help": "The context tokens that text_init does not reach.", "choices": ["normal", "zeros"]},
    )
    text_depth: int = field(default=1, metadata={"help": "Text layers that get separate tokens."})
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
    vision_depth: int = field(default=1, metadata={"help": "Image layers that get separate tokens."})
    coupled: bool = field(
        default=False, metadata={"help": "Make the vision tokens from the text tokens by linear maps (MaPLe)."}
    )

    @property
    def learns_in_image_tower(self) -> bool:
        """Whether an image's features change in training, so that pixels have to be trained on."""
        return self.num_vision_tokens > 0


@dataclass
class ViTPromptArguments:
    """The fields of `ViTPromptConfig` that recipes and command lines set."""

    design: str = field(
        default="custom",
        metadata={
            "help": "The published design of prompts that the other fields are of, for checks and the model card: "
            f"{', '.join(ViTPromptConfig.designs.names())}."
        },
    )
    num_tokens: int = field(default=10, metadata={"help": "Number of learned tokens in every prompted layer."})
    depth: int | None = field(default=None, metadata={"help": "Number of prompted layers. Default: every layer."})
    init: str = field(
        default="xavier",
        metadata={
            "help": "How the tokens are initialised: as in VPT, or normal with deviation 0.02, cut at two deviations.",
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


def make_defaults() -> dict[str, Any]:
    """Return the defaults of training arguments that every protocol has, for this machine."""
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return {
        "save_strategy": "epoch",
        "logging_strategy": "epoch",
        "save_total_limit": 1,
        "per_device_eval_batch_size": 512,
        "report_to": "none",
        # Workers decode and augment the images; the process itself keeps a core.
        "dataloader_num_workers": min(8, max(0, cores - 1)),
        "dataloader_persistent_workers": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": True,  # `progress` shows how far a run is.
    }


def check_distinct(values: Sequence[Any], argument: str) -> None:
    """Refuse what is given twice: it would be run once and counted twice, with a deviation of 0."""
    if repeated := sorted({str(value) for value in values if list(values).count(value) > 1}):
        raise ValueError(f"{argument} has {', '.join(repeated)} more than once; give each one once.")


def check_shots(shots: Sequence[str]) -> None:
    """Refuse numbers of shots that are no whole numbers above 0 and not 'all'."""
    check_distinct(shots, "--shots")
    for number in shots:
        if number == ALL:
            continue
        if not re.fullmatch(r"-?(0|[1-9]\d*)", number):
            raise ValueError(f"--shots takes whole numbers and '{ALL}', got {number!r}.")
        check_at_least(1, shots=int(number))


def check_seeds(seeds: Sequence[int]) -> None:
    check_distinct(seeds, "--seeds")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise ValueError(f"--seeds must be from 0 to 2**32 - 1, got {wrong[0]}.")


def check_at_least(lowest: int, **arguments: float | None) -> None:
    """Refuse arguments below the lowest value that has a meaning; None is a default."""
    for name, value in arguments.items():
        if value is not None and value < lowest:
            raise ValueError(f"--{name} must be at least {lowest}, got {value:g}.")


def name_of_data(dataset: str) -> str:
    """What a data set is called in directories and cards: the last part of its id or path."""
    path = Path(dataset).expanduser()
    return path.resolve().name if path.exists() else dataset.rstrip("/").rpartition("/")[2]


@contextmanager
def naming_model(model: str) -> Iterator[None]:
    """Name the model where it cannot be loaded; a library's message may not.

    Raises:
        ValueError: Loading it failed.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"--model {model} cannot be loaded; give a directory or a Hub id. ({' '.join(str(error).split())})"
        ) from error


def code_to_load(model_class: str, model: str, demo_constant: str, demo_path: Path) -> list[str]:
    """Lines of Python that load a base model as `base`, the demo's by its constant instead of its path here."""
    on_demo = model == str(demo_path)
    imports = [f"from transformers import {model_class}"]
    if on_demo:
        imports.insert(0, f"from hf_sharp_prompt.demo import {demo_constant}")
    return [*imports, "", f"base = {model_class}.from_pretrained({demo_constant if on_demo else repr(model)})"]
