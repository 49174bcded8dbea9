"""A trained adapter on its base model, with the classes that it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from peft import PeftModel
from peft.utils import CONFIG_NAME
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from ..experiments import detection, segmentation
from ..printable import printable
from ..tuners import CLIPPromptConfig, ViTPromptConfig
from ..tuners.adapter_file import find_file
from ..tuners.prompt_config import read_object


Config = CLIPPromptConfig | ViTPromptConfig
CONFIGS: dict[str, type[Config]] = {"CLIP_PROMPT": CLIPPromptConfig, "VIT_PROMPT": ViTPromptConfig}

MODELS: Mapping[str, Mapping[str, type[PreTrainedModel]]] = {
    "object-detection": detection.MODELS,
    "image-segmentation": segmentation.MODELS,
}
"""By task, the type of a checkpoint → the model. Other tasks have transformers' own tables."""


class LoadedAdapter(NamedTuple):
    """An adapter on its base model.

    Args:
        config: The adapter's config.
        model: The base model with the adapter active.
        image_processor: The base model's image processor.
        class_names: The names of the classes, by the model's index.
    """

    config: Config
    model: PeftModel
    image_processor: Any
    class_names: list[str]


def load_adapter(
    adapter: str,
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    template: str | None = None,
) -> LoadedAdapter:
    """Load an adapter onto its base model.

    The adapter's files are checked before anything is made of them, and nothing in them is run.

    Args:
        adapter: A directory, or an id on the Hub.
        model: The base model's directory or id. By default the one that the adapter names.
        class_names: The classes. By default the adapter's own; an adapter with a head has no others.
        template: The text around a class name, which an adapter of CLIP reads. By default the one that was trained
            with.

    Raises:
        FileNotFoundError: There is no adapter.
        ValueError: The adapter or its base model cannot be loaded; no classes, or ones that it cannot have.
    """
    config = read_config(adapter)
    base = model or config.base_model_name_or_path
    if not base:
        raise ValueError(f"The adapter {adapter} does not name its base model; name it with --model.")
    with PartialState().local_main_process_first():
        try:
            bare = load_base(base, config)
            processor = AutoImageProcessor.from_pretrained(base)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The base model {base} of {adapter} cannot be loaded; name its directory or Hub id with --model. "
                f"({' '.join(str(error).split())})"
            ) from error
    prompted = PeftModel.from_pretrained(bare, adapter, config=config)
    if isinstance(config, ViTPromptConfig):
        names = names_of_head(config, prompted, class_names, template)
    else:
        names = set_classes(config, prompted, base, class_names, template)
    return LoadedAdapter(config, prompted, processor, names)


def read_config(adapter: str) -> Config:
    """Read an adapter's config.

    Raises:
        FileNotFoundError: There is none; adapters in folders below are named.
        ValueError: It is damaged, or of another method.
    """
    try:
        path = find_file(CONFIG_NAME, adapter, None)
    except FileNotFoundError as error:
        below = sorted(str(each.parent) for each in Path(adapter).glob(f"**/{CONFIG_NAME}"))
        there = f" There are adapters in {', '.join(below[:5])}{', …' if len(below) > 5 else ''}." if below else ""
        raise FileNotFoundError(f"There is no adapter in {adapter}. ({error}){there}") from error
    method = str(read_object(path, f"{CONFIG_NAME} of {adapter}").get("peft_type"))
    if method not in CONFIGS:
        raise ValueError(
            f"{adapter} is an adapter of type {printable(method)[:40]}, not of prompts ({', '.join(CONFIGS)})."
        )
    return CONFIGS[method].from_pretrained(adapter)


def has_head(config: Config) -> bool:
    """Whether an adapter classifies with a head, and not by the texts of class names."""
    return isinstance(config, ViTPromptConfig)


def has_fixed_classes(config: Config) -> bool:
    """Whether an adapter has learned something for each of its classes, and can classify into no others."""
    return isinstance(config, ViTPromptConfig) or config.class_specific


def task_of(config: Config) -> str:
    """Return what an adapter was trained for, as the Hub writes it."""
    return (isinstance(config, CLIPPromptConfig) and config.task) or "image-classification"


def load_base(base: str, config: Config) -> PreTrainedModel:
    """Load a base model as its task needs it, with its own head if the adapter was trained on one that had it.

    Raises:
        ValueError: It is of a type that does not do the task.
    """
    task = task_of(config)
    if task in MODELS:
        models, kind = MODELS[task], AutoConfig.from_pretrained(base).model_type
        if kind not in models:
            raise ValueError(f"It is of the type {kind!r}, but {task} is done by {', '.join(models)}.")
        return models[kind].from_pretrained(base)
    sizes = config.base_model_sizes or {}
    is_classifier = isinstance(config, ViTPromptConfig) and str(sizes.get("model")).endswith("ForImageClassification")
    return (AutoModelForImageClassification if is_classifier else AutoModel).from_pretrained(base)


def names_of_head(
    config: ViTPromptConfig, model: PeftModel, class_names: Sequence[str] | None, template: str | None
) -> list[str]:
    """Return the names of a head's classes.

    Raises:
        ValueError: A template, which a head does not read; other classes than the head's.
    """
    if template is not None:
        raise ValueError("--template is for adapters of CLIP, which read class names; this one has a head. Drop it.")
    labels: dict[int, str] = model.get_base_model().config.id2label  # type: ignore[union-attr, assignment]  # transformers'
    names = [labels[index] for index in sorted(labels)]
    if class_names is None:
        return names
    if len(class_names) != len(names) or (config.class_names and list(class_names) != config.class_names):
        remedy = "" if config.class_names else f", or give {len(names)} names"
        raise ValueError(
            f"The adapter has a head for {len(names)} classes, and no others can be asked for; drop --class_names"
            f"{remedy}."
        )
    return list(class_names)


def set_classes(
    config: CLIPPromptConfig, model: PeftModel, base: str, class_names: Sequence[str] | None, template: str | None
) -> list[str]:
    """Let an adapter of CLIP classify into these classes, and return their names.

    Raises:
        ValueError: There are none, or they are refused.
    """
    names = config.class_names if class_names is None else list(class_names)
    if names is None:
        raise ValueError("The adapter has no classes of its own; name them with --class_names.")
    if class_names is not None or template is not None:
        template = config.class_template if template is None else template
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer_name_or_path or base)
        model.set_classes(names, tokenizer, template)
    return names
