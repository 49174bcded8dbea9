"""The card of an adapter on the Hub, made from its config and from what was seen of its training."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Template
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..tuners import CLIPPromptConfig, ViTPromptConfig
from ..tuners.prompt_design import CUSTOM
from .base_model import BaseModel, base_model_of
from .citations import Paper
from .escaping import escape, escape_around_code, in_code
from .history import CURVE_NAME, PICTURE_NAME, History
from .pictures import curve_in_words, is_drawn
from .versions import installed_versions


TEMPLATE = files("hf_sharp_prompt.cards") / "template.md"
MAX_CLASSES_LISTED = 100
MAX_CURVE_ROWS = 12
MAX_WORDS_ROWS = 16
PIPELINE_TAGS = {
    "image-classification": "zero-shot-image-classification",
    "object-detection": "zero-shot-object-detection",
}
"""The tasks of prompts for texts whose pipelines the Hub calls by other names."""

METRICS = {
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean of the classes' accuracies",
    "ece": "expected calibration error",
    "map": "mAP",
    "map50": "mAP50",
    "map75": "mAP75",
    "mean_iou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
}
"""What the Trainer calls the metrics of a `model-index` → what it calls them."""


def model_card(
    model: PeftModel,
    history: History,
    language: str | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    dataset: str | list[str] | None = None,
    model_id: str | None = None,
    subfolder: str | None = None,
    **_: Any,
) -> ModelCard:
    """The card of the active prompt adapter.

    Names from outside (classes, data, models) are escaped: they appear as text, never as markup.

    Args:
        model: The model with the adapter.
        history: What was seen of its training.
        language, license, tags, model_name, dataset: As for `Trainer.create_model_card`; where they are given they
            take the place of what the history tells, tags stand beside it.
        model_id: The name under which the adapter is loaded: its repository or directory.
        subfolder: Its folder there; by default the one that PEFT saves an adapter of this name in.

    Returns:
        A `huggingface_hub.ModelCard`, to `save` or `push_to_hub`.

    Raises:
        ValueError: The adapter is not a prompt.
    """
    config = _prompt_config(model)
    design = config.get_design()
    base = base_model_of(model, config)
    told = {
        "language": language or history.language,
        "license": license or history.license,
        "dataset": [dataset] if isinstance(dataset, str) else list(dataset or history.dataset),
    }
    history = History(**vars(history) | told)
    words = _words_for_vit(config) if isinstance(config, ViTPromptConfig) else _words_for_clip(config, model)
    title = model_name or _title(design.title if design.name != CUSTOM else "Prompts", base, history)
    model_id = model_id or _one_word(title)
    cited = [*([design.reference] if design.reference else []), *history.papers.items()]
    papers = {url or citation: Paper(citation, url) for citation, url in reversed(cited)}
    parts = [subfolder, None if model.active_adapter == "default" else model.active_adapter]
    subfolder = "/".join(part for part in parts if part)
    methods = {design.name, *history.tags} - {CUSTOM, "none"}
    given_tags = [tags] if isinstance(tags, str) else list(tags or ())
    card_data = ModelCardData(
        language=history.language,
        license=history.license,
        library_name="peft",
        pipeline_tag=words.pop("pipeline_tag"),
        base_model=base.on_hub,
        tags=sorted({"hf-sharp-prompt", "prompt-learning", words["tower"], *given_tags, *methods}),
        **_model_index(history, words["task"], title),
    )
    text = _template().render(
        card_data=card_data.to_yaml(),
        title=escape(title),
        model_id=in_code(model_id),
        subfolder=f', subfolder="{in_code(subfolder)}"' if subfolder else "",
        base=base,
        method=", ".join([design.title, *map(escape_around_code, history.method)]),
        papers=[*reversed(papers.values())],
        model_class=type(model.get_base_model()).__name__,
        tokens=design.learned(config),
        dataset=_describe_data(history),
        trained_parameters=f"{_count_parameters(model):,}",
        results=_results(history),
        curve=_curve(history.curve),
        curve_picture=CURVE_NAME if is_drawn(history.curve) else None,
        curve_in_words=curve_in_words(history.curve),
        settings=[(escape(name), escape(value)) for name, value in history.settings.items()],
        sharpness=_sharpness(history.sharpness),
        nearest_words=_nearest_words(model, config),
        nearest_of_one_class=getattr(config, "class_specific", False),
        has_classes=bool(config.class_names),
        classes=_classes(config.class_names),
        measured_classes=_measured_classes(config.class_names, history.measured_classes),
        picture=None if history.picture is None else PICTURE_NAME,
        versions=[
            (escape(package), escape(version))
            for package, version in (history.versions or installed_versions()).items()
        ],
        seconds=None if history.seconds is None else _duration(history.seconds),
        hardware=escape(history.hardware),
        source=escape(history.source),
        record=history.as_comment(),
        **words,
    )
    return ModelCard(text)


@functools.cache
def _template() -> Template:
    return Template(TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True)


def _prompt_config(model: PeftModel) -> CLIPPromptConfig | ViTPromptConfig:
    config = model.peft_config[model.active_adapter]
    if not isinstance(config, CLIPPromptConfig | ViTPromptConfig):
        raise ValueError(f"Cards are for prompt adapters, but {model.active_adapter!r} has a {type(config).__name__}.")
    return config


def _title(design: str, base: BaseModel, history: History) -> str:
    """What the adapter is: design, methods, base model and data."""
    methods = "".join(f" + {name}" for name in history.members)
    data = f" on {', '.join(history.dataset)}" if history.dataset else ""
    shots = f", {history.shots} {'shot' if history.shots == 1 else 'shots'}" if history.shots else ""
    return f"{design}{methods} for {base.name}{data}{shots}"


def _one_word(title: str) -> str:
    return re.sub(r"[^\w.]+", "-", title).strip("-")


def _words_for_clip(config: CLIPPromptConfig, model: Any) -> dict[str, Any]:
    task = config.task or "image-classification"
    return {
        "reader": "tokenizer" if task == "image-segmentation" else "processor",
        "knows_background": task == "image-segmentation" and model.comparison.knows_background,
        "tower": "clip",
        "task": task,
        "pipeline_tag": PIPELINE_TAGS.get(task, task),
        "frozen_boxes": task == "object-detection" and not config.num_vision_tokens,
        "prompted_text": _prompted_text(config),
        "initialisation": f"initialised with “{escape(config.text_init)}”" if config.text_init else "random at first",
        "template": in_code(config.class_template),
    }


def _prompted_text(config: CLIPPromptConfig) -> str | None:
    """How a text is encoded; None if texts stay as they are."""
    n = config.num_text_tokens
    if not n:
        return None
    half = n // 2
    return {
        "end": f"[SOS][V1 … V{n}][text][EOS]",
        "middle": f"[SOS][V1 … V{half}][text][V{half + 1} … V{n}][EOS]",
        "front": f"[SOS][text][V1 … V{n}][EOS]",
    }[config.class_token_position]


def _words_for_vit(config: ViTPromptConfig) -> dict[str, Any]:
    return {
        "tower": "vit",
        "task": "image-classification",
        "pipeline_tag": "image-classification",
        "head": f"a {config.head} head" if config.head else "the model's own head",
    }


def _count_parameters(model: PeftModel) -> int:
    """Count the numbers that the active adapter has learned."""
    tensors = get_peft_model_state_dict(model, adapter_name=model.active_adapter, save_embedding_layers=False)
    return sum(tensor.numel() for tensor in tensors.values())


def _describe_data(history: History) -> str:
    """The data's names, and how many images were learned from; empty if nothing is known."""
    count, shots = history.training_images, history.shots
    images = f"{count:,} training images" + (f", {shots} of each class" if shots else "") if count else ""
    names = ", ".join(map(escape, history.dataset or (["not named"] if count else [])))
    return f"{names} ({images})" if images else names


def _model_index(history: History, task: str, model_name: str) -> dict[str, Any]:
    """Return the results that the Hub reads from a card; nothing where none of `METRICS` was measured.

    The data sets are the measured ones: the names of the sets, such as base and novel, are their splits.
    """
    name, found = ", ".join(history.measured_on or history.dataset or ["not named"]), []
    for key, value in sorted(history.results.items()):
        match = re.fullmatch(rf"(?:(.+?)_)?({'|'.join(METRICS)})", key)
        if match and math.isfinite(value):
            result = EvalResult(
                task_type=task,
                dataset_type=name,
                dataset_name=name,
                dataset_split=match[1],
                metric_type=match[2],
                metric_name=METRICS[match[2]],
                metric_value=round(value, 4),
            )
            found.append(result)
    return {"model_name": model_name, "eval_results": found} if found else {}


def _results(history: History) -> str:
    if not history.results:
        return "No evaluation is recorded."
    rows = [f"| {escape(name)} | {value:.4f} |" for name, value in sorted(history.results.items())]
    for metric in METRICS:
        base, novel = (history.results.get(f"{half}_{metric}") for half in ("base", "novel"))
        if base and novel and metric in ("accuracy", "map", "mean_iou"):
            rows.append(
                f"| harmonic mean of base and novel {METRICS[metric]} | {2 * base * novel / (base + novel):.4f} |"
            )
    where = f", on {', '.join(map(escape, history.measured_on))}" if history.measured_on else ""
    return "\n".join([f"At the last evaluation{where}:", "", "| metric | value |", "|---|---|", *rows])


def _curve(curve: Sequence[Mapping[str, float | int]]) -> str:
    """The table of what was measured on the way, thinned to a few rows; empty for one measurement."""
    if len(curve) < 2:
        return ""
    places = sorted({round(index * (len(curve) - 1) / (MAX_CURVE_ROWS - 1)) for index in range(MAX_CURVE_ROWS)})
    shown = [curve[place] for place in places if place < len(curve)]
    names = list(dict.fromkeys(name for row in shown for name in row))
    rows = [f"| {' | '.join(_in_cell(row.get(name)) for name in names)} |" for row in shown]
    return "\n".join([f"| {' | '.join(map(escape, names))} |", f"|{'---|' * len(names)}", *rows])


def _in_cell(value: float | None) -> str:
    return "–" if value is None else f"{value:g}" if float(value).is_integer() else f"{value:.4f}"


def _sharpness(logged: Mapping[str, float]) -> str:
    """What the rule saw last, in a sentence; empty if it saw nothing."""
    if "sharpness" in logged and {"step", "loss", "perturbed_loss"} <= logged.keys():
        head = (
            f"When last logged, at step {logged['step']:g}: loss {logged['loss']:.4f}, {logged['perturbed_loss']:.4f} "
            f"at the perturbed point (sharpness {logged['sharpness']:.4f})"
        )
    elif "step" in logged and "loss" in logged:
        head = f"When last logged, at step {logged['step']:g}: loss {logged['loss']:.4f}"
    else:
        return ""
    named = {"cosine": "cos(g, g_p)", "gradient_norm": "gradient norm ‖g‖"}
    others = [name for name in logged if name not in ("step", "loss", "perturbed_loss", "sharpness")]
    return ", ".join([head, *(f"{named.get(name, escape(name))} {logged[name]:.3f}" for name in others)]) + "."


def _nearest_words(model: Any, config: CLIPPromptConfig | ViTPromptConfig) -> list[tuple[str, str]]:
    """By context token the vocabulary's nearest tokens and their distances; empty where there is no tokenizer."""
    if not isinstance(config, CLIPPromptConfig) or not config.num_text_tokens:
        return []
    source = config.tokenizer_name_or_path or getattr(model.get_base_model(), "name_or_path", None)
    tokenizer = _load_tokenizer(str(source)) if source else None
    if tokenizer is None:
        return []
    found = model.interpret_prompts(tokenizer)
    if config.class_specific:  # of each class; the first one's are an example
        found = found[0]
    return [
        (
            f"V{place}",
            ", ".join(f"{escape(token.removesuffix('</w>'))} ({distance:.2f})" for token, distance in nearest),
        )
        for place, nearest in enumerate(found[:MAX_WORDS_ROWS], 1)
    ]


@functools.lru_cache(maxsize=4)
def _load_tokenizer(source: str) -> PreTrainedTokenizerBase | None:
    """Load a tokenizer that is on this machine; None if there is none. A card is not worth a download."""
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return None


def _measured_classes(own: Sequence[str] | None, measured: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return the names of the measured sets and their classes, without sets all of whose classes are told before."""
    told, listed = {*(own or ())}, []
    for name, names in measured.items():
        if not told.issuperset(names):
            listed.append((escape(name), _classes(list(names))))
            told |= {*names}
    return listed


def _classes(names: list[str] | None) -> str:
    if not names:
        return "None saved with the adapter."
    listed = ", ".join(escape(name) for name in names[:MAX_CLASSES_LISTED])
    return listed + (f" and {len(names) - MAX_CLASSES_LISTED} more." if len(names) > MAX_CLASSES_LISTED else ".")


def _duration(seconds: float) -> str:
    """A duration in words: the two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def path_to_load(directory: str | Path) -> str:
    """How a card calls a directory: from the working directory, or of one that is elsewhere the last part.

    A card may be copied to the Hub by hand, so that it must not tell how the user is called.
    """
    path, here = Path(directory).absolute(), Path.cwd()
    return path.relative_to(here).as_posix() if here in path.parents else path.name
