"""A protocol from its command line to its exit code."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from accelerate import PartialState
from rich.console import Console

from ..training.arguments import SharpPromptTrainingArguments
from .arguments import ExperimentArguments
from .console import make_console, prepare_process, use_all_cores
from .experiment import Experiment
from .failures import FAILED
from .hub_collection import gather_in_collection
from .index import INDEX_NAME, collection_card, write_index
from .manuals.manual import Manual, is_asked_for
from .methods import ArgumentGroups, Method, parse_methods
from .publishing import Publication, push_index_cards
from .results import Results
from .runs import check_directories, end_of
from .skipped import SKIPPED_NAME, write_skipped
from .smoke import NOTE
from .summary import combined_tables
from .tables import as_rich


A = TypeVar("A", bound=ExperimentArguments)
P = TypeVar("P")
E = TypeVar("E", bound=Experiment[Any, Any])


def start(groups: ArgumentGroups[A, P], description: str, argv: Sequence[str]) -> tuple[A, list[Method[P]], Console]:
    """Set up the process and read the command line; see [`~methods.parse_methods`]."""
    prepare_process()
    args, methods = parse_methods(groups, description, argv)
    use_all_cores()
    return args, methods, make_console()


Make = Callable[[A, SharpPromptTrainingArguments], Sequence[E]]
"""Makes the experiments of a command line: of its arguments, and of a method's training arguments, which say where
results go and how many workers decode images."""


def one_per_data_set(make_experiment: Callable[[str, A, SharpPromptTrainingArguments], E]) -> Make[A, E]:
    """Make an experiment on each data set."""
    return lambda args, training: [make_experiment(dataset, args, training) for dataset in args.datasets]


def load_experiments(
    make_experiments: Make[A, E], args: A, methods: Sequence[Method[Any]], console: Console
) -> list[E]:
    """Load the experiments of a command, and make sure that each can be run, before the first begins.

    Images that were left out are listed in a file for each data set, and the console says where.
    """
    loaded = list(make_experiments(args, methods[0].training))
    for experiment in loaded:
        check_directories(experiment.list_runs(methods))
    if PartialState().is_main_process:
        for path, images in {each.output_dir / each.name / SKIPPED_NAME: each.skipped for each in loaded}.items():
            write_skipped(path, images)
            if images:
                console.print(f"{path} lists {len(images)} images that are left out.", soft_wrap=True)
    return loaded


def run_protocol(
    groups: ArgumentGroups[A, P], make_experiments: Make[A, Experiment[P, Any]], manual: Manual, argv: Sequence[str]
) -> int:
    """Run the methods of a command line on its data sets, print tables, draw figures and write the index.

    Args:
        groups: The protocol's arguments.
        make_experiments: Makes the experiments, in the order in which they are run.
        manual: The text of `--help`.
        argv: The command line.

    Returns:
        The exit code.
    """
    if is_asked_for(argv):
        print(manual.format(), end="")
        return 0
    args, methods, console = start(groups, manual.text, argv)
    if args.smoke:
        console.print(NOTE, soft_wrap=True)
    waiting = load_experiments(make_experiments, args, methods, console)
    output_dir, protocol = waiting[0].output_dir, waiting[0].protocol
    command = command_line(["sharp-prompt", protocol], argv)
    results: list[Results] = []
    publications: list[Publication] = []
    conclusions: list[str] = []
    while waiting:  # An experiment's images are released when it is done.
        experiment = waiting.pop(0)
        if words := experiment.describe():
            console.print(words, soft_wrap=True)
        found, pushed = experiment.run(methods, console, command)
        results.append(found)
        publications += pushed
        console.print(experiment.make_table(experiment.label, found))
        if PartialState().is_main_process:
            experiment.draw(found)
            write_index(output_dir)
        conclusions.append(experiment.conclude(found))
    if PartialState().is_main_process:
        for table in combined_tables(output_dir, protocol):
            console.print(as_rich(table))
        console.print(f"{output_dir / INDEX_NAME} has all tables, and says how to load an adapter.", soft_wrap=True)
    code = end_of(results, publications, console)
    if PartialState().is_main_process:
        missing = []
        if any(each.subfolder for each in publications):
            missing.append(push_index_cards(publications, collection_card(output_dir, publications)))
        if args.hub_collection is not None:
            missing.append(gather_in_collection(args.hub_collection, publications))
        for what in filter(None, missing):
            console.print(f"NOT PUSHED: {what}. The same command tries it again.", soft_wrap=True)
            code = FAILED
    for conclusion in filter(None, conclusions):
        console.print(conclusion, soft_wrap=True)
    return code


def command_line(program: Sequence[str], argv: Sequence[str]) -> str:
    """The command line as it may be typed again, without secrets."""
    words, skipped = [], False
    for word in argv:
        name, has_value, _ = word.partition("=")
        if not skipped and not name.endswith("_token"):
            words.append(word)
        skipped = name.endswith("_token") and not has_value
    return shlex.join([*program, *words])
