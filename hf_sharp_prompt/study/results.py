"""What the study's runs have measured, by method, task and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..experiments.results import Result, Results, read_json, succeeded


EXPLANATION_NAME = "explanation.json"
"""What may explain a run's accuracy, beside its adapter."""
RADII = (0.1, 0.5)
"""The perturbation radii that sharpness is measured at."""
Runs = dict[str, dict[int, Result]]
"""By task, the result of each seed."""


def read_results(directory: Path, tasks: Iterable[str]) -> dict[str, Results]:
    """Read the results of a directory, by task; tasks without results are left out."""
    found = {task: read_json(directory / task / "summary.json") for task in tasks}
    return {task: results for task, results in found.items() if results is not None}


def runs_of(results: Mapping[str, Results], method: str) -> Runs:
    """The runs of a method that succeeded, by task and seed."""
    return {task: {run["seed"]: run for run in succeeded(each.get(method, []))} for task, each in results.items()}


def values_of(runs: Runs, key: str) -> dict[str, dict[int, float]]:
    """One value of every run, by task and seed."""
    return {task: {seed: run[key] for seed, run in seeds.items()} for task, seeds in runs.items()}


def read_explanation(run: Result) -> dict[str, Any] | None:
    """What may explain a run's accuracy; None if it was not measured."""
    return read_json(Path(run["adapter"]) / EXPLANATION_NAME)
