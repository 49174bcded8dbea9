"""The figures of the protocols, drawn from results; they need the `plots` extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..plots import plot_accuracy_by_epoch, plot_accuracy_by_group, plot_accuracy_by_shots
from ..printable import printable
from .averages import HALVES
from .results import Result, Results, succeeded


def draw_by_epoch(results: Results, path: Path, title: str) -> None:
    """Draw base and novel accuracy by epoch."""
    histories = {name: each for name, runs in results.items() if (each := histories_of(runs))}
    if histories:
        plot_accuracy_by_epoch(histories, path, title=printable(title))


def histories_of(runs: list[Result]) -> list[dict[str, list[float]]]:
    """Per seed, the accuracies by epoch; those at the end alone where not all were measured as often."""
    histories = [run["history"] for run in succeeded(runs) if "history" in run]
    if len({len(history["base"]) for history in histories}) > 1:
        return [{half: history[half][-1:] for half in HALVES} for history in histories]
    return histories


def draw_by_shots(by_shots: Mapping[str, Results], path: Path, title: str) -> None:
    """Draw the accuracy over the number of shots.

    Args:
        by_shots: By number of shots, in the order of the axis, the results.
        path: The PNG file to write.
        title: The title of the figure.
    """
    curves: dict[str, dict[str, list[float]]] = {}
    for shots, results in by_shots.items():
        for method, runs in results.items():
            accuracies = [run["accuracy"] for run in succeeded(runs)]
            if accuracies:
                curves.setdefault(method, {})[shots] = accuracies
    if curves:
        plot_accuracy_by_shots(curves, list(by_shots), path, title=printable(title))


def draw_by_group(results: Results, columns: Mapping[str, str], path: Path, title: str) -> None:
    """Draw a bar for each method and group of images, such as a target or the many-shot classes.

    Args:
        results: The results by method.
        columns: Heading → key of a result: the groups.
        path: The PNG file to write.
        title: The title of the figure.
    """
    if finished := {name: runs for name, each in results.items() if (runs := succeeded(each))}:
        plot_accuracy_by_group(finished, path, title=printable(title), groups=columns)
