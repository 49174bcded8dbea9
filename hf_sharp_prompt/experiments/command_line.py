"""The example scripts' command line: methods from recipes and arguments, and what a script prints."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

import datasets
import torch
import transformers
import yaml
from accelerate import PartialState
from rich.console import Console
from rich.text import Text
from transformers import HfArgumentParser

from ..training.arguments import SharpPromptTrainingArguments
from .publishing import name_repository
from .results import printable_lines


class MethodsArguments(Protocol):
    """What every experiment's dataclass of arguments holds."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    recipes: list[str]


T = TypeVar("T", bound=MethodsArguments)


@dataclass
class Method:
    """A recipe as it will be run."""

    name: str
    prompt: Any  # the script's dataclass of prompt arguments
    training: SharpPromptTrainingArguments


def make_defaults() -> dict[str, Any]:
    """Make the training arguments' defaults that every script has, for this machine."""
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
        "disable_tqdm": not sys.stderr.isatty(),
    }


def use_all_cores() -> None:
    """Undo that `accelerate launch` leaves a process without a GPU one thread, however many cores there are."""
    state = PartialState()
    if "ACCELERATE_MIXED_PRECISION" in os.environ and state.device.type == "cpu" and state.num_processes == 1:
        # OpenMP keeps to its limit, and oneDNN's bfloat16 products are wrong where torch counts on more threads.
        torch.set_num_threads(min(os.cpu_count() or 1, int(os.environ.get("OMP_THREAD_LIMIT", 2**10))))


def prepare_process() -> None:
    """Let torchrun's processes meet on a CPU, and print only what is of use: a line per run, from one process.

    To be called first: Accelerate decides once whether processes meet.
    """
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if several and not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("hf_sharp_prompt").setLevel(logging.INFO)
    if os.environ.get("RANK", "0") != "0":
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    # PEFT asks transformers about its gradient checkpointing under the old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


class PrintableFormatter(logging.Formatter):
    """A formatter whose messages hold no control characters, whatever the names in them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class PlainConsole(Console):
    """A console that prints names as they are: no markup, no emoji codes, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable_lines(text), **options)


def make_console() -> PlainConsole:
    """The main process's; wide enough for every table where it is not a terminal whose width counts."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    return PlainConsole(width=width, quiet=not PartialState().is_main_process)


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
    if any(word.partition("=")[0] == "--seed" for word in argv):
        raise ValueError("--seed is set for each run; give --seeds, e.g. --seeds 1 2 3.")
    args = parse_one(kinds[0], make_parser(kinds, defaults, description), argv)
    methods: list[Method] = []
    for recipe in args.recipes:
        path = find_recipe(recipe, recipes)
        parser = make_parser(kinds, defaults | read_recipe(path, on_demo(args)), description)
        try:
            _, prompt, training = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
        except TypeError as error:
            raise ValueError(f"The recipe {path} has a value of the wrong type: {error}.") from error
        check_length(training)
        if path.stem in (method.name for method in methods):
            raise ValueError(f"--recipes has {path.stem!r} twice; a method's directory has its name. Rename one.")
        methods.append(Method(path.stem, prompt, training))
    return args, methods


def check_length(training: SharpPromptTrainingArguments) -> None:
    if training.max_steps <= 0 and training.num_train_epochs <= 0:
        raise ValueError(
            f"num_train_epochs must be greater than 0, got {training.num_train_epochs:g}; nothing would be trained."
        )


def check_distinct(values: Sequence[Any], argument: str) -> None:
    """Refuse what is given twice: it would be run once and counted twice, with a deviation of 0."""
    if repeated := sorted({str(value) for value in values if list(values).count(value) > 1}):
        raise ValueError(f"{argument} has {', '.join(repeated)} more than once; give each one once.")


def check_seeds(seeds: Sequence[int]) -> None:
    check_distinct(seeds, "--seeds")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise ValueError(f"--seeds must be from 0 to 2**32 - 1, got {wrong[0]}.")


def check_at_least(lowest: int, **arguments: float | None) -> None:
    """Refuse arguments below the lowest value that has a meaning; None is a default."""
    for name, value in arguments.items():
        if value is not None and value < lowest:
            raise ValueError(f"--{name} must be at least {lowest}, got {value:g}.")


class Parser(HfArgumentParser):
    """A parser whose complaint is one sentence, without the usage of all arguments before it."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message[:1].upper()}{message[1:]}; --help lists the arguments.")


def make_parser(kinds: Sequence[type], values: dict[str, Any], description: str) -> Parser:
    """A parser of several dataclasses of arguments, with values of the script's and a recipe's for their defaults."""
    parser = Parser(kinds, description=description)
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
    """A recipe's values, those under `demo:` included if they apply.

    Raises:
        ValueError: The file is not a recipe.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"The recipe {path} is not valid YAML: {error}") from error
    for_demo = values.pop("demo", {}) if isinstance(values, dict) else None
    if not isinstance(for_demo, dict) or not all(isinstance(name, str) for name in {**values, **for_demo}):
        raise ValueError(f"The recipe {path} must map arguments to values, as `learning_rate: 0.002` does.")
    return values | (for_demo if on_demo else {})


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


def check_names_of_data(datasets: Sequence[str]) -> None:
    """Refuse data sets whose results would go into one directory."""
    check_distinct([name_of_data(dataset) for dataset in datasets], "--dataset")


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
    given, name = method.training, name_of_data(dataset)
    num_workers = 0 if in_memory else given.dataloader_num_workers
    return dataclasses.replace(
        given,
        output_dir=str(directory),
        seed=seed,
        dataloader_num_workers=num_workers,
        dataloader_persistent_workers=given.dataloader_persistent_workers and num_workers > 0,
        dataset_name=name if Path(dataset).expanduser().exists() else dataset,
        hub_model_id=name_repository(given, name, method.name, f"seed{seed}") if given.push_to_hub else None,
        push_to_hub=False,  # but when the run has ended, so that the Hub cannot end it
    )
