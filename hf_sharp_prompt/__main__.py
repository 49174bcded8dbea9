"""The command line: `sharp-prompt COMMAND …`, or `python -m hf_sharp_prompt`, also under `accelerate launch -m`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple

from . import progress
from .experiments.failures import CONTINUES, run_script
from .experiments.manuals.manual import is_asked_for
from .hyperparameters import nearest


PROGRAM = "sharp-prompt"


class Command(NamedTuple):
    """A subcommand.

    Args:
        module: A module of the package. Its `main` takes the words behind the command, and returns the exit code.
        summary: One line for `--help`.
        answers_at_once: Whether it needs no models, so that there is no progress to show.
        when_interrupted: What Ctrl-C means for what it did so far.
        manual: A module whose `MANUAL` is what `--help` shows, for one whose `module` takes seconds to import.
    """

    module: str
    summary: str
    answers_at_once: bool = False
    when_interrupted: str = "The same command starts from the beginning."
    manual: str | None = None


def training_command(module: str, manual: str, summary: str) -> Command:
    """Make a command that trains: it continues where it stopped, and has a manual."""
    return Command(
        f"experiments.{module}", summary, when_interrupted=CONTINUES, manual=f"experiments.manuals.{manual}"
    )


COMMANDS = {
    "train": training_command("all_classes", "train", "learn prompts from all classes of a data set, for use"),
    "predict": Command(
        "inference.predict",
        "classify images, find objects or segment with a trained adapter",
        when_interrupted="What was predicted is on standard output; the same command starts with the first image.",
    ),
    "evaluate": Command("inference.evaluate", "measure a trained adapter on a data set"),
    "space": Command("space.command", "compare prompts on a page, or on a Space of the Hub"),
    "export": Command("export.command", "write a trained adapter as ONNX, for open_clip, or as a plain CLIP"),
    "base2novel": training_command(
        "base_to_novel", "base2novel", "learn from few images of some classes, measure on others too"
    ),
    "few_shot": training_command("few_shot", "few_shot", "learn from 1, 2, 4, 8, 16 and all images of each class"),
    "cross_dataset": training_command("cross_dataset", "cross_dataset", "learn on one data set, measure on others"),
    "domain_generalization": training_command(
        "domain_generalization",
        "domain_generalization",
        "learn on one data set, measure on variants of its images",
    ),
    "detection": training_command("detection", "detection", "find objects of categories that were not learned"),
    "segmentation": training_command("segmentation", "segmentation", "segment classes that were not learned"),
    "long_tail": training_command("long_tail", "long_tail", "learn from classes of which most are rare, with a ViT"),
    "study": Command(
        "study.command",
        "do prompts overfit, and what explains it? docs/study.md's tables and figures",
        True,
        CONTINUES,
    ),
    "summarize": Command("experiments.summarize", "make tables and figures of all results in directories", True),
    "recipes": Command("experiments.show_recipes", "list the recipes, or show what one resolves to", True),
    "convert": Command(
        "convert.__main__", "convert prompts from CoOp's repository and its successors', and back", True
    ),
}
"""The subcommands by name. Modules are imported when they are run: torch alone takes seconds."""


def main() -> None:
    """Run the command line, and exit."""
    argv = sys.argv[1:]
    command = COMMANDS.get(argv[0]) if argv else None
    run_script(lambda: run(argv), command.when_interrupted if command else "")


def run(argv: Sequence[str]) -> int:
    """Run a subcommand.

    Args:
        argv: The subcommand's name and what it takes.

    Returns:
        The exit code.

    Raises:
        ValueError: There is no such subcommand.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(list_commands(), end="")
        return 0
    name, *words = argv
    if name not in COMMANDS:
        raise ValueError(f"There is no command {name!r}{nearest(name, COMMANDS)} Known are: {', '.join(COMMANDS)}.")
    sys.argv = [f"{PROGRAM} {name}", *words]  # argparse names the program by it.
    command = COMMANDS[name]
    if command.manual and is_asked_for(words):
        print(import_module(f".{command.manual}", __package__).MANUAL.format(), end="")
        return 0
    if not (command.answers_at_once or {"-h", "--help", "--help_all"} & {*words}):
        progress.report("starting")  # before the seconds that imports take
    return import_module(f".{command.module}", __package__).main(words)


def list_commands() -> str:
    """The text of `--help` without a command."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND …",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=20),
        description="Sharpness-aware prompt learning for CLIP and ViT.",
        epilog=f"`{PROGRAM} COMMAND --help` is a command's manual. Training commands run in several processes and on "
        "several GPUs under `accelerate launch -m hf_sharp_prompt COMMAND …`.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary)
    return parser.format_help()


if __name__ == "__main__":
    main()
