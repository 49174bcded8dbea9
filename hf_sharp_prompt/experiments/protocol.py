"""A protocol from its command line to its exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from accelerate import PartialState
from rich.console import Console

from ..training.arguments import SharpPromptTrainingArguments
from .arguments import ExperimentArguments
from .console import make_console, prepare_process, use_all_cores
from .experiment import Experiment
from .methods import ArgumentGroups, Method, parse_methods
from .publishing import Publication
from .results import Results
from .runs import check_directories, end_of
from .tables import make_table


A = TypeVar("A", bound=ExperimentArguments)
P = TypeVar("P")
E = TypeVar("E", bound=Experiment[Any, Any])


def start(groups: ArgumentGroups[A, P], description: str, argv: Sequence[str]) -> tuple[A, list[Method[P]], Console]:
    """Set up the process and read the command line; see [`~methods.parse_methods`]."""
    prepare_process()
    args, methods = parse_methods(groups, description, argv)
    use_all_cores()
    return args, methods, make_console()


def load_experiments(
    make_experiment: Callable[[str, A, SharpPromptTrainingArguments], E], args: A, methods: Sequence[Method[Any]]
) -> list[E]:
    """Load the experiments of a command, and make sure that each can be run, before the first begins."""
    loaded = [make_experiment(dataset, args, methods[0].training) for dataset in args.datasets]
    for experiment in loaded:
        check_directories(experiment.list_runs(methods))
    return loaded


def run_protocol(
    groups: ArgumentGroups[A, P],
    make_experiment: Callable[[str, A, SharpPromptTrainingArguments], Experiment[P, Any]],
    description: str,
    argv: Sequence[str],
    average: Callable[[list[Results]], Results] | None = None,
) -> int:
    """Run the methods of a command line on its data sets, print tables and draw figures.

    Args:
        groups: The protocol's arguments.
        make_experiment: Makes the experiment on a data set.
        description: The text of `--help`.
        argv: The command line.
        average: Averages results over data sets, for a last table; by default there is none.

    Returns:
        The exit code.
    """
    args, methods, console = start(groups, description, argv)
    waiting = load_experiments(make_experiment, args, methods)
    columns = waiting[0].columns
    results: dict[str, Results] = {}
    publications: list[Publication] = []
    while waiting:  # An experiment's images are released when it is done.
        experiment = waiting.pop(0)
        if about_data := experiment.describe():
            console.print(about_data, soft_wrap=True)
        results[experiment.dataset], pushed = experiment.run(methods, console)
        publications += pushed
        console.print(experiment.make_table(experiment.name, results[experiment.dataset]))
        if PartialState().is_main_process:
            experiment.draw(results[experiment.dataset])
        where = f"{experiment.directory}/METHOD/seedN, summary.json and {experiment.figure} beside them"
        console.print(f"Adapters are in {where}.\n", soft_wrap=True)
    if average is not None and len(results) > 1:
        console.print(make_table(f"mean of {len(results)} data sets", average(list(results.values())), columns))
    return end_of(list(results.values()), publications, console)
