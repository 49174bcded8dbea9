"""What the example scripts have in common: recipes, and runs that are continued where they stopped."""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import datasets
import torch
import transformers
import yaml
from accelerate import PartialState
from transformers import HfArgumentParser


T = TypeVar("T")

CORES_PER_PROCESS = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
DEFAULTS = {
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "save_total_limit": 1,
    "per_device_eval_batch_size": 512,
    "report_to": "none",
    # Images are decoded and augmented in workers; a core is left to the process itself.
    "dataloader_num_workers": min(8, max(0, CORES_PER_PROCESS - 1)),
    "dataloader_persistent_workers": True,
    "dataloader_pin_memory": torch.cuda.is_available(),
    "disable_tqdm": not sys.stderr.isatty(),
}
# What makes two runs the same run, so that one may be continued as the other.
SETTINGS = (
    "sharpness",
    "sharpness_args",
    "rho_schedule",
    "objectives",
    "subspace_epochs",
    "subspace_rank",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "optim",
    "optim_args",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "label_smoothing_factor",
    "bf16",
    "fp16",
)


def be_quiet() -> None:
    """A line per run says enough."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_sharp_prompt").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    # Of PEFT's asking transformers about its gradient checkpointing under the old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def make_parser(kinds: Sequence[type], values: dict[str, Any], description: str) -> HfArgumentParser:
    """A parser of several dataclasses of arguments, with values of the script's and a recipe's for their defaults."""
    parser = HfArgumentParser(kinds, description=description)
    known = {action.dest for action in parser._actions}
    for name in values.keys() - known:
        nearest = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"A recipe sets {name!r}, which is no argument of this script"
            + (f"; did you mean {nearest[0]!r}?" if nearest else "; see --help.")
        )
    parser.set_defaults(**values)
    return parser


def parse_one(kind: type[T], parser: HfArgumentParser, argv: list[str]) -> T:
    """The arguments of one dataclass alone: those of the others may be wrong without what a recipe sets."""
    given = vars(parser.parse_args(argv))
    return kind(**{field.name: given[field.name] for field in dataclasses.fields(kind)})


def find_recipe(recipe: str, directory: Path) -> Path:
    """A recipe's file: one of the directory's by name, or any by path."""
    path = directory / f"{recipe}.yaml"
    path = path if path.is_file() else Path(recipe)
    if not path.is_file():
        available = ", ".join(sorted(each.stem for each in directory.glob("*.yaml")))
        raise ValueError(f"There is no recipe {recipe!r}. Give the path of a YAML file, or one of: {available}.")
    return path


def read_recipe(path: Path, on_demo: bool) -> dict[str, Any]:
    """A recipe's values, those under `demo:` included if they apply."""
    values = yaml.safe_load(path.read_text())
    for_demo = values.pop("demo", {})
    return values | (for_demo if on_demo else {})


def check_same_settings(path: Path, settings: dict[str, Any]) -> None:
    """Claim a run's directory, or make sure that what it holds is this very run."""
    if path.is_file():
        held = json.loads(path.read_text())
        if changed := [name for name in settings if held.get(name) != settings[name]]:
            differences = ", ".join(f"{name} was {held.get(name)} and is now {settings[name]}" for name in changed)
            raise ValueError(f"{path.parent} holds another run: {differences}. Choose another --output_dir.")
    elif PartialState().is_main_process:
        write_json(path, settings)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2))
    os.replace(temporary, path)
