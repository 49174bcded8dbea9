"""Means over data sets, as the papers' last rows have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import harmonic_mean, mean
from typing import Any

from .results import Result, Results, succeeded


HALVES = ("base", "novel")


def with_harmonic_mean(accuracies: Mapping[str, float]) -> Result:
    """Accuracies on base and novel classes, and their harmonic mean."""
    return {**accuracies, "hm": harmonic_mean(accuracies[half] for half in HALVES)}


def average(results: Sequence[Results], keys: Sequence[str] = HALVES) -> Results:
    """Per method and seed, the mean over data sets.

    Args:
        results: The results on each data set.
        keys: What to average, besides the seconds. The harmonic mean of base and novel is that of their means. A key
            that a result lacks, or whose value is undefined, has no mean.

    Returns:
        The methods that have a seed on all data sets. What failed on one is left out.
    """
    averaged = {
        method: [average_result(runs, keys) for runs in in_all(results, method)]
        for method in dict.fromkeys(name for each in results for name in each)
    }
    return {method: runs for method, runs in averaged.items() if runs}


def average_result(runs: Sequence[Result], keys: Sequence[str]) -> Result:
    """The mean of one method and seed over data sets."""
    means: dict[str, Any] = {key: mean_or_none([run.get(key) for run in runs]) for key in keys if key != "hm"}
    if all(means.get(half) is not None for half in HALVES):
        means = with_harmonic_mean(means)
    seed = {} if runs[0].get("seed") is None else {"seed": runs[0]["seed"]}
    return {**means, **seed, "seconds": mean(run.get("seconds", 0) for run in runs)}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is undefined."""
    defined = [value for value in values if value is not None]
    return mean(defined) if defined and len(defined) == len(values) else None


def in_all(results: Sequence[Results], method: str) -> list[tuple[Result, ...]]:
    """The runs of a method by seed, each on all data sets; what failed on one is left out."""
    by_seed = [{run.get("seed"): run for run in succeeded(each.get(method, []))} for each in results]
    return [tuple(each[seed] for each in by_seed) for seed in by_seed[0] if all(seed in each for each in by_seed)]
