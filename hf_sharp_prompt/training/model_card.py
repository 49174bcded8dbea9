"""The card of a trained prompt on the Hub, filled in from what the Trainer really saw."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from peft import PeftModel, get_peft_model_state_dict
from transformers.trainer_pt_utils import AcceleratorConfig

from ..objectives import Objective
from ..printable import printable
from ..sharpness import SharpnessRule
from ..tuners import CLIPPromptConfig, ViTPromptConfig
from ..tuners.prompt_design import CUSTOM
from .arguments import SharpPromptTrainingArguments
from .push import make_public


TEMPLATE = files("hf_sharp_prompt") / "model_card_template.md"
MAX_CLASSES_LISTED = 100
PIPELINE_TAGS = {
    "image-classification": "zero-shot-image-classification",
    "object-detection": "zero-shot-object-detection",
}
"""The tasks of prompts for texts whose pipelines the Hub calls by other names."""

METRICS = {
    "accuracy": "accuracy",
    "map": "mAP",
    "map50": "mAP50",
    "map75": "mAP75",
    "mean_iou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
}
"""What the Trainer calls the metrics of a `model-index` → what it calls them."""

TOLD_AS_METHOD = ("sharpness", "sharpness_args", "objectives", "subspace_epochs", "subspace_rank")
"""The arguments that the card's row "method" tells, with the values that were really used."""
PICTURE_NAME = "predictions.png"
"""The picture beside a card that shows one."""

PACKAGES = ("hf-sharp-prompt", "peft", "transformers", "accelerate", "datasets", "torch")


@dataclasses.dataclass(frozen=True)
class TrainedPrompt:
    """What a card tells.

    Args:
        model: The model with the adapter.
        args: The Trainer's arguments.
        rule: The sharpness rule that was followed; None if this Trainer has not trained.
        objectives: What was minimised besides the loss.
        log_history: What was logged.
        training_images: How many images there were to train on, if that is known.
        repository: The adapter's repository on the Hub, if it has one.
        measured_classes: By name the sets that were measured on, and the names of their classes, if they have some.
        picture: A PNG file that shows predictions, if there is one.
    """

    model: PeftModel
    args: SharpPromptTrainingArguments
    rule: SharpnessRule | None
    objectives: Sequence[Objective]
    log_history: Sequence[dict[str, Any]]
    training_images: int | None
    repository: str | None
    measured_classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    picture: bytes | None = None


def model_card(
    prompt: TrainedPrompt,
    language: str | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    dataset: str | list[str] | None = None,
    model_id: str | None = None,
    **_: Any,
) -> ModelCard:
    """The card of the active prompt adapter.

    Names from outside (classes, data, models) are escaped: they appear as text, never as markup.

    Args:
        prompt: What the card tells.
        language, license, tags, model_name, dataset: As for `Trainer.create_model_card`.
        model_id: The name under which the adapter is loaded; by default its repository or output directory.

    Returns:
        A `huggingface_hub.ModelCard`, to `save` or `push_to_hub`.
    """
    args, model, rule = prompt.args, prompt.model, prompt.rule
    config = _prompt_config(model)
    design = config.get_design()
    dataset = dataset or args.dataset_name
    words = _words_for_vit(config) if isinstance(config, ViTPromptConfig) else _words_for_clip(config, model)
    base_model = str(config.base_model_name_or_path or words["some_model"])
    on_hub = base_model if re.fullmatch(r"[\w.-]+/[\w.-]+", base_model) and not Path(base_model).exists() else None
    tags = [tags] if isinstance(tags, str) else list(tags or ())
    methods = {design.name, *(each.name for each in (rule, *prompt.objectives) if each is not None)} - {CUSTOM, "none"}
    if rule is not None and args.subspace_epochs is not None:
        methods.add("subpt")
    model_id = model_id or prompt.repository or args.hub_model_id or Path(str(args.output_dir)).name
    model_name = model_name or model_id.split("/")[-1]
    base_model_name = on_hub or Path(base_model).name
    card_data = ModelCardData(
        language=language,
        license=license,
        library_name="peft",
        pipeline_tag=words.pop("pipeline_tag"),
        base_model=on_hub,
        tags=sorted({"hf-sharp-prompt", "prompt-learning", words["tower"], *tags, *methods}),
        **_model_index(prompt.log_history, words["task"], model_name, dataset),
    )
    return ModelCard.from_template(
        card_data,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        model_name=escape(model_name),
        model_id=_in_code(model_id),
        base_model=_in_code(base_model_name),
        base_model_link=f"[{on_hub}](https://huggingface.co/{on_hub})" if on_hub else escape(base_model_name),
        where_base_model_is="" if on_hub else "  # the local directory of the base model",
        method=", ".join([design.title, *_describe_training(prompt)]),
        reference=design.reference,
        model_class=type(model.get_base_model()).__name__,
        tokens=design.learned(config),
        dataset=_describe_data(prompt.training_images, dataset),
        trained_parameters=f"{_count_parameters(model):,}",
        results=_results(prompt.log_history),
        training=[] if rule is None else _training(args),
        sharpness_summary=_sharpness_summary(prompt.log_history),
        classes=_classes(config.class_names),
        measured_classes=_measured_classes(config.class_names, prompt.measured_classes),
        picture=None if prompt.picture is None else PICTURE_NAME,
        versions=[(package, _version(package)) for package in PACKAGES],
        **words,
    )


def write_cards_of(model: PeftModel, describe: Callable[[], TrainedPrompt]) -> None:
    """Let the Trainer's card be written wherever the model is saved or pushed, by the Trainer or by the user.

    PEFT and transformers write generic cards by two methods of the model, which are replaced on this model. The new
    ones are functions rather than bound methods, because copying the model must not copy the Trainer.

    Args:
        model: The model.
        describe: Returns what the card tells, as it is then.
    """

    def save_card(output_dir: str, model_id: str | None = None) -> None:
        prompt = describe()
        if prompt.picture is not None:
            Path(output_dir, PICTURE_NAME).write_bytes(prompt.picture)
        model_card(prompt, model_id=model_id).save(os.path.join(output_dir, "README.md"))

    def upload(working_dir: str, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        save_card(working_dir, repo_id)
        make_public(Path(working_dir))
        return PeftModel._upload_modified_files(model, working_dir, repo_id, *args, **kwargs)

    methods: Any = model  # mypy refuses to replace methods; these are one model's, not its class's.
    methods.create_or_update_model_card = save_card
    methods._upload_modified_files = upload


def _prompt_config(model: PeftModel) -> CLIPPromptConfig | ViTPromptConfig:
    config = model.peft_config[model.active_adapter]
    if not isinstance(config, CLIPPromptConfig | ViTPromptConfig):
        raise ValueError(f"Cards are for prompt adapters, but {model.active_adapter!r} has a {type(config).__name__}.")
    return config


def _words_for_clip(config: CLIPPromptConfig, model: Any) -> dict[str, Any]:
    task = config.task or "image-classification"
    return {
        "reader": "tokenizer" if task == "image-segmentation" else "processor",
        "knows_background": task == "image-segmentation" and model.comparison.knows_background,
        "tower": "clip",
        "some_model": "a CLIP model",
        "task": task,
        "pipeline_tag": PIPELINE_TAGS.get(task, task),
        "frozen_boxes": task == "object-detection" and not config.num_vision_tokens,
        "prompted_text": _prompted_text(config),
        "initialisation": f"initialised with “{escape(config.text_init)}”" if config.text_init else "random at first",
        "template": _in_code(config.class_template),
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
        "some_model": "a vision transformer",
        "task": "image-classification",
        "pipeline_tag": "image-classification",
        "head": f"a {config.head} head" if config.head else "the model's own head",
    }


def escape(text: object) -> str:
    """Return text that Markdown shows literally, on one line: no markup, no HTML, no table cells."""
    text = printable(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text)


def _in_code(text: str) -> str:
    """Return text for the inside of a string in the card's code, without what could end string, line or block."""
    return re.sub(r"[\"\\`]", "", printable(re.sub(r"[\r\n]", "", str(text))))


def _describe_training(prompt: TrainedPrompt) -> list[str]:
    """Say what the Trainer followed; an empty list before training begins."""
    rule, args = prompt.rule, prompt.args
    if rule is None:
        return []
    described = [] if rule.name == "none" else [f"trained along the sharpness rule `{_in_brief(rule)}`"]
    if args.subspace_epochs is not None:
        described.append(
            f"SubPT: gradients are projected onto the subspace of rank {args.subspace_rank} in which the prompt moved "
            f"in {args.subspace_epochs} early epochs"
        )
    objectives = [f"with the objective `{_in_brief(objective)}`" for objective in prompt.objectives]
    return [" ".join([", ".join(described) or "plain training", *objectives])]


def _count_parameters(model: PeftModel) -> int:
    """Count the numbers that the active adapter has learned."""
    tensors = get_peft_model_state_dict(model, adapter_name=model.active_adapter, save_embedding_layers=False)
    return sum(tensor.numel() for tensor in tensors.values())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # A checkout is on the path, but not installed.
        return "of unknown version"


def _in_brief(member: Any) -> str:
    """Write a rule or objective as the call that makes it, long lists cut short."""
    values = {field.name: getattr(member, field.name) for field in dataclasses.fields(member)}
    arguments = ", ".join(f"{name}={_in_code(reprlib.repr(value))}" for name, value in values.items())
    return f"{type(member).__name__}({arguments})".replace("'", "")


def _describe_data(count: int | None, dataset: str | list[str] | None) -> str:
    all_names = [dataset] if isinstance(dataset, str) else list(dataset or ["not named"])
    return ", ".join(escape(_public_name(name)) for name in all_names) + (
        f" ({count:,} training images)" if count else ""
    )


def _public_name(dataset: str) -> str:
    """Return a data set's name, of a local path the last part."""
    return Path(dataset).name if Path(dataset).is_absolute() or dataset.startswith((".", "~")) else dataset


def _last_measured(log_history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return by name what the last evaluation measured."""
    results: dict[str, float] = {}
    for entry in log_history:
        measured = {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
        results |= {name: value for name, value in measured.items() if not re.search("runtime|per_second", name)}
    return results


def _model_index(
    log_history: Sequence[dict[str, Any]], task: str, model_name: str, dataset: str | list[str] | None
) -> dict[str, Any]:
    """Return the results that the Hub reads from a card; nothing where none of `METRICS` was measured.

    The data sets are the measured ones: the names of the sets, such as base and novel, are their splits.
    """
    name = dataset if isinstance(dataset, str) else ", ".join(dataset or ["not named"])
    found = []
    for key, value in sorted(_last_measured(log_history).items()):
        match = re.fullmatch(rf"(?:(.+)_)?({'|'.join(METRICS)})", key)
        if match and math.isfinite(value):
            public = _public_name(name)
            result = EvalResult(
                task_type=task,
                dataset_type=public,
                dataset_name=public,
                dataset_split=match[1],
                metric_type=match[2],
                metric_name=METRICS[match[2]],
                metric_value=round(value, 4),
            )
            found.append(result)
    return {"model_name": model_name, "eval_results": found} if found else {}


def _results(log_history: Sequence[dict[str, Any]]) -> str:
    results = _last_measured(log_history)
    if not results:
        return "No evaluation was run."
    rows = [f"| {escape(name)} | {value:.4f} |" for name, value in sorted(results.items())]
    return "\n".join(["At the last evaluation:", "", "| metric | value |", "|---|---|", *rows])


def _training(args: SharpPromptTrainingArguments) -> list[tuple[str, str]]:
    """The arguments that a card shows, by the one list of what identifies a run.

    These are the identifying arguments that are not at their defaults, and, at whatever value, those that every reader
    looks for: how long, at what learning rate, with which optimizer and from which seed.
    """
    length, no_length = ("max_steps", "num_train_epochs")[:: 1 if args.max_steps > 0 else -1]
    schedule = "lr_scheduler_type" if args.epoch_schedule == "none" else "epoch_schedule"
    always = {length, schedule, "learning_rate", "optim", "weight_decay", "seed"}
    values, defaults = args.identity(), _defaults(args)
    shown = [name for name in defaults if name in values and (name in always or values[name] != defaults[name])]
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "float32"
    return [
        *((name, escape(_in_short(values[name]))) for name in shown if name not in (no_length, *TOLD_AS_METHOD)),
        ("total batch size", str(batch)),
        ("precision", precision),
    ]


def _defaults(args: SharpPromptTrainingArguments) -> dict[str, Any]:
    """By name the defaults of the arguments, as `identity` writes values."""
    defaults = {}
    for field in dataclasses.fields(args):
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.name == "accelerator_config":  # For None transformers makes one, and takes one entry out again.
            value = AcceleratorConfig().to_dict()
            value.pop("use_configured_state", None)
        defaults[field.name] = json.loads(json.dumps(value, default=str))
    return defaults


def _in_short(value: Any) -> str:
    """A value as it is typed, long lists cut short."""
    return value if isinstance(value, str) else reprlib.repr(value)


def _sharpness_summary(log_history: Sequence[dict[str, Any]]) -> str:
    last = next((entry for entry in reversed(log_history) if "sharpness" in entry), None)
    if last is None:
        return ""
    return (
        f"When last logged, at step {last['step']}: loss {last['loss']:.4f}, {last['perturbed_loss']:.4f} at the "
        f"perturbed point (sharpness {last['sharpness']:.4f}), cos(g, g_p) {last['cosine']:.3f}."
    )


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
