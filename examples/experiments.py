"""What the example scripts have in common: recipes, and runs that are continued where they stopped."""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

import datasets
import torch
import transformers
import yaml
from accelerate import PartialState
from rich.console import Console
from transformers import HfArgumentParser
from transformers.trainer_utils import get_last_checkpoint

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments


logger = logging.getLogger(__name__)

T = TypeVar("T")
Result = dict[str, Any]  # of a run: what was measured, the seconds that training took, and the adapter's directory

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
    "epoch_schedule",
    "first_epoch_learning_rate",
    "drop_last_train_batch",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "label_smoothing_factor",
    "bf16",
    "fp16",
)


@dataclass
class Method:
    """A recipe as it will be run."""

    name: str
    prompt: Any  # the script's dataclass of prompt arguments
    training: SharpPromptTrainingArguments


def use_all_cores() -> None:
    """Undo that `accelerate launch` leaves a process without a GPU one thread, however many cores there are."""
    state = PartialState()
    if "ACCELERATE_MIXED_PRECISION" in os.environ and state.device.type == "cpu" and state.num_processes == 1:
        torch.set_num_threads(os.cpu_count() or 1)


def be_quiet() -> None:
    """A line per run says enough."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_sharp_prompt").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    # Of PEFT's asking transformers about its gradient checkpointing under the old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def make_console() -> Console:
    """The main process's; wide enough for every table where it is not a terminal whose width counts."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    return Console(width=width, quiet=not PartialState().is_main_process)


def parse_methods(
    kinds: tuple[type[T], type, type[SharpPromptTrainingArguments]],
    defaults: dict[str, Any],
    recipes: Path,
    on_demo: Callable[[T], bool],
    description: str,
    argv: list[str],
) -> tuple[T, list[Method]]:
    """The experiment and its methods: a recipe's values replace the defaults, the command line's replace both.

    Args:
        kinds: The dataclasses of arguments: of the experiment (with `recipes`, names or paths), prompts and training.
        defaults: The script's own, by argument.
        recipes: The directory of the script's recipes.
        on_demo: Whether an experiment is on the embedded demo, so that what a recipe says for it applies.
        description: Of the script, for `--help`.
        argv: The command line.
    """
    args = parse_one(kinds[0], make_parser(kinds, defaults, description), argv)
    methods = []
    for recipe in args.recipes:
        path = find_recipe(recipe, recipes)
        parser = make_parser(kinds, defaults | read_recipe(path, on_demo(args)), description)
        _, prompt, training = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
        methods.append(Method(path.stem, prompt, training))
    return args, methods


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


def training_of_run(
    method: Method, seed: int, directory: Path, dataset: str, in_memory: bool
) -> SharpPromptTrainingArguments:
    """A method's training arguments for one run.

    Args:
        method: What is run.
        seed: Of everything random.
        directory: Where checkpoints and adapter go.
        dataset: A Hub id, or a path, of which cards say the last part alone.
        in_memory: Whether images are there as tensors, so that workers would have nothing to do.
    """
    given, name = method.training, Path(dataset).name
    num_workers = 0 if in_memory else given.dataloader_num_workers
    repository = "-".join([given.hub_model_id or "prompts", name, method.name, f"seed{seed}"])
    return dataclasses.replace(
        given,
        output_dir=str(directory),
        seed=seed,
        dataloader_num_workers=num_workers,
        dataloader_persistent_workers=given.dataloader_persistent_workers and num_workers > 0,
        dataset_name=name if Path(dataset).exists() else dataset,
        hub_model_id=repository if given.push_to_hub else None,
        hub_strategy="end",
    )


def run_once(
    directory: Path,
    settings: dict[str, Any],
    make_trainer: Callable[[], SharpPromptTrainer],
    measure: Callable[[SharpPromptTrainer], Result],
    check_reloaded: Callable[[Result], None],
) -> Result:
    """Train, measure, save and load back; what an earlier call began is continued, or just returned.

    Args:
        directory: Of the run: its settings, checkpoints, adapter and result.
        settings: What makes it this run.
        make_trainer: Makes the Trainer, if the run is not finished.
        measure: Of the trained Trainer, what is to be reported.
        check_reloaded: Raises if the saved adapter does not reach the result.

    Raises:
        ValueError: The directory holds a run with other settings.
    """
    # The underscore keeps it, and the user's paths in it, from being pushed to the Hub.
    check_same_settings(directory / "_settings.json", settings)
    PartialState().wait_for_everyone()
    if (directory / "metrics.json").is_file():
        logger.warning(f"{directory} is finished and not run again.")
        return json.loads((directory / "metrics.json").read_text())
    trainer = make_trainer()
    started = time.perf_counter()
    places = [path for path in (directory, directory / "_early") if path.is_dir()]  # the latter: SubPT's early stage
    trainer.train(resume_from_checkpoint=any(get_last_checkpoint(path) for path in places))
    seconds = time.perf_counter() - started
    result = measure(trainer) | {"seconds": seconds, "adapter": str(directory)}
    trainer.push_to_hub() if trainer.args.push_to_hub else trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    check_reloaded(result)
    if trainer.is_world_process_zero():
        write_json(directory / "metrics.json", result)
        for checkpoint in directory.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    trainer.accelerator.wait_for_everyone()
    return result


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


def in_percent(values: Sequence[float]) -> str:
    """Mean and, of several, standard deviation."""
    return f"{100 * mean(values):.1f}" + (f" ± {100 * stdev(values):.1f}" if len(values) > 1 else "")


def in_words(result: Result, columns: dict[str, str]) -> str:
    """One run's line: what was measured, under the names of the table's columns."""
    measured = ", ".join(f"{name} {100 * result[key]:.1f}" for name, key in columns.items())
    return f"{measured} in {result['seconds']:.1f} s"
