"""What a script prints, and how its process is set up."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import PartialState
from rich.console import Console
from rich.text import Text

from .. import progress
from ..together.session import name_of_run
from .results import printable_lines


def use_all_cores() -> None:
    """Undo that `accelerate launch` leaves a process without a GPU one thread, however many cores there are.

    Where the user set OMP_NUM_THREADS, `accelerate launch` passes it on, and it stays.
    """
    state = PartialState()
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and state.device.type == "cpu" and state.num_processes == 1 and not was_set_by_user("OMP_NUM_THREADS"):
        # OpenMP keeps to its limit, and oneDNN's bfloat16 products are wrong where torch counts on more threads.
        torch.set_num_threads(min(os.cpu_count() or 1, int(os.environ.get("OMP_THREAD_LIMIT", 2**10))))


def was_set_by_user(name: str) -> bool:
    """Whether an environment variable was set where `accelerate launch`, which started this process, was typed."""
    try:
        environment = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return False  # not Linux
    return any(each.startswith(f"{name}=".encode()) for each in environment.split(b"\0"))


def prepare_process() -> None:
    """Let torchrun's processes meet on a CPU, and print only what is useful: a line for each run, from one process.

    Under FSDP every process loads the weights. Call it first: Accelerate decides once whether processes meet.
    """
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if several and not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
        PartialState(cpu=True)  # which does not read the variable itself; training arguments do
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # By them each process knows which run it is.
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
    """A formatter whose messages hold no control characters, whatever the names in them, and clear the progress.

    Of several runs at once each message begins with the run's name.
    """

    def format(self, record: logging.LogRecord) -> str:
        progress.hide()
        run = name_of_run()
        return printable_lines(f"{run}: {super().format(record)}" if run else super().format(record))


class PlainConsole(Console):
    """A console that prints names as they are: no markup, no emoji codes, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print behind the progress, which a bar would else be part of."""
        progress.hide()
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the command's end that nobody reads what it prints."""
        raise

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable_lines(text), **options)


def make_console() -> PlainConsole:
    """Make a console of the main process alone. Where it is no terminal, it is wide enough for every table."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    return PlainConsole(width=width, quiet=not PartialState().is_main_process)
