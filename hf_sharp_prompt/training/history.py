"""What a Trainer has seen of a training, for the card of what it trained."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_pt_utils import AcceleratorConfig

from ..cards import History, paper_in
from ..cards.escaping import in_code
from ..cards.versions import installed_versions
from ..data import class_counts
from ..objectives import Objective
from ..objectives.nfl import NFL
from ..sharpness import SharpnessRule
from .arguments import SharpPromptTrainingArguments


TOLD_AS_METHOD = ("sharpness", "sharpness_args", "objectives", "subspace_epochs", "subspace_rank")
"""The arguments that the card's row "method" tells, with the values that were really used."""


def describe_training(
    args: SharpPromptTrainingArguments,
    parts: Sequence[SharpnessRule | Objective],
    loss: type | None,
    log_history: Sequence[dict[str, Any]],
    train_dataset: Any,
) -> History:
    """Return what a Trainer that has begun to train knows of it, but for what it measured.

    Args:
        args: The Trainer's arguments.
        parts: The sharpness rule that was followed, and what was minimised besides the loss.
        loss: The loss for long tails that was minimised; None if it was the model's own.
        log_history: What was logged.
        train_dataset: What it trained on.
    """
    subspace = [NFL] if args.subspace_epochs is not None else []  # NFL's paper is SubPT's
    members = [*map(type, parts), *([loss] if loss else ()), *subspace]
    followed = [each for each in parts if each.name != "none"]
    seconds = [entry["train_runtime"] for entry in log_history if "train_runtime" in entry]
    return History(
        method=_describe_method(args, followed),
        members=[*(type(each).__name__ for each in followed), *(["SubPT"] if subspace else ())],
        tags=[*(each.name for each in followed), *(["subpt"] if subspace else ())],
        papers=dict(paper for member in members if (paper := paper_in(member)) is not None),
        dataset=public_names(args.dataset_name),
        training_images=len(train_dataset) if hasattr(train_dataset, "__len__") else None,
        shots=_count_shots(train_dataset),
        settings=_settings(args),
        sharpness=_last_logged(log_history),
        versions=installed_versions(),
        seconds=seconds[-1] if seconds else None,
        hardware=_hardware(args),
    )


def measured(log_history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a `History` that say what was measured: `results` and `curve`."""
    results: dict[str, float] = {}
    curve: dict[int, dict[str, float]] = {}
    for entry in log_history:
        values = {
            name.removeprefix("eval_"): float(value)
            for name, value in entry.items()
            if name.startswith("eval_") and not re.search("runtime|per_second|model_preparation", name)
        }
        results |= values
        headline = [name for name in values if re.fullmatch(r"(.+?_)?(accuracy|map|mean_iou)", name)]
        headline = [name for name in headline if not name.endswith("_per_class_accuracy")] or [
            *values.keys() & {"loss"}
        ]
        if headline:
            at: dict[str, float] = {name: entry[name] for name in ("epoch", "step") if name in entry}
            row = curve.setdefault(entry.get("step", 0), at)
            row |= {name: values[name] for name in headline}
    return {"results": results, "curve": [*curve.values()]}


def _describe_method(args: SharpPromptTrainingArguments, followed: Sequence[SharpnessRule | Objective]) -> list[str]:
    """Say what the Trainer followed."""
    rules = [f"trained along the sharpness rule `{_in_brief(each)}`" for each in followed if _is_rule(each)]
    if args.subspace_epochs is not None:
        rules.append(
            f"SubPT: gradients are projected onto the subspace of rank {args.subspace_rank} in which the prompt moved "
            f"in {args.subspace_epochs} early epochs"
        )
    objectives = [f"with the objective `{_in_brief(each)}`" for each in followed if not _is_rule(each)]
    return [" ".join([", ".join(rules) or "plain training", *objectives])]


def _is_rule(part: SharpnessRule | Objective) -> bool:
    return isinstance(part, SharpnessRule)


def _in_brief(member: Any) -> str:
    """Write a rule or objective as the call that makes it, long lists cut short."""
    values = {field.name: getattr(member, field.name) for field in dataclasses.fields(member)}
    arguments = ", ".join(f"{name}={in_code(reprlib.repr(value))}" for name, value in values.items())
    return f"{type(member).__name__}({arguments})".replace("'", "")


def public_names(dataset: str | Sequence[str] | None) -> list[str]:
    """The names of data sets, of local paths the last parts."""
    names = [dataset] if isinstance(dataset, str) else list(dataset or ())
    return [Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) else name for name in names]


def _count_shots(train_dataset: Any) -> int | None:
    """How many images each class has; None if they differ or cannot be counted without reading the images."""
    try:
        counts = {count for count in class_counts(train_dataset) if count}
    except (ValueError, TypeError, KeyError):
        return None
    return counts.pop() if len(counts) == 1 else None


def _settings(args: SharpPromptTrainingArguments) -> dict[str, str]:
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
    return {
        **{name: _in_short(values[name]) for name in shown if name not in (no_length, *TOLD_AS_METHOD)},
        "total batch size": str(batch),
        "precision": precision,
    }


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


def _last_logged(log_history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the rule and the objectives reported last, with the loss and the step."""
    entries = [entry for entry in log_history if entry.keys() & {"gradient_norm", "sharpness"}]
    last = entries[-1] if entries else {}
    left_out = ("epoch", "learning_rate", "grad_norm")
    return {name: value for name, value in last.items() if name not in left_out and isinstance(value, int | float)}


def _hardware(args: SharpPromptTrainingArguments) -> str:
    """The kind of machine; nothing that tells which one."""
    if args.device.type == "cuda":
        return f"{max(args.world_size, 1)} × {torch.cuda.get_device_name(args.device)}"
    if args.device.type != "cpu":
        return args.device.type
    processes = f", {args.world_size} processes" if args.world_size > 1 else ""
    return f"CPU ({platform.machine()}, {os.cpu_count()} cores{processes})"
