"""Is a method better than another? Paired differences over tasks and seeds, with intervals; rank correlations.

Methods are compared where they meet: on the same task, with the same seed, and so with the same training images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


RESAMPLES = 10_000
Values = Mapping[str, Mapping[int, float]]
"""By task, a value per seed."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Args:
        mean: The estimate.
        low: The lower end of the interval.
        high: The upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def is_above(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the whole interval is below zero."""
        return self.high < 0


@dataclass(frozen=True)
class Comparison:
    """A method compared with another.

    Args:
        difference: The mean difference over tasks, with its interval.
        p_value: Of Wilcoxon's signed-rank test of the tasks' mean differences, two-sided; None if there are fewer than
            five tasks.
        wins: On how many tasks the mean difference is positive.
        tasks: The number of tasks.
        seeds: The number of seeds on every task.
    """

    difference: Interval
    p_value: float | None
    wins: int
    tasks: int
    seeds: int


def paired(values: Values, reference: Values) -> dict[str, list[float]]:
    """By task, the differences of the seeds that both have."""
    return {
        task: [value - reference[task][seed] for seed, value in seeds.items() if seed in reference[task]]
        for task, seeds in values.items()
        if task in reference
    }


def compare(values: Values, reference: Values, level: float = 0.95) -> Comparison:
    """Compare a method with another by the mean of its paired differences over tasks and seeds.

    Args:
        values: The method's values.
        reference: The other's.
        level: The level of the interval.

    Raises:
        ValueError: They have no task and seed in common.
    """
    from scipy.stats import wilcoxon  # an extra; the rest of the package works without it

    differences = {task: each for task, each in paired(values, reference).items() if each}
    if not differences:
        raise ValueError("The methods have no task and seed in common.")
    means = [float(np.mean(each)) for each in differences.values()]
    can_test = len(means) >= 5 and any(means)
    return Comparison(
        bootstrap_over_tasks_and_seeds(list(differences.values()), level),
        float(wilcoxon(means).pvalue) if can_test else None,
        sum(each > 0 for each in means),
        len(means),
        min(map(len, differences.values())),
    )


def bootstrap_over_tasks_and_seeds(
    values: Sequence[Sequence[float]], level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean over tasks of the means over seeds, with the percentile interval of the two-stage bootstrap.

    A resample draws tasks with replacement, and then seeds of each drawn task (Davison and Hinkley, Bootstrap Methods
    and their Application, 1997, section 3.8). With one task, seeds alone are drawn.

    Args:
        values: For each task, a value per seed.
        level: The level of the interval.
        resamples: The number of resamples.
        seed: Seeds the draws.
    """
    random = np.random.default_rng(seed)
    longest = max(map(len, values))
    table, counts = np.full((len(values), longest), np.nan), np.array([len(each) for each in values])
    for row, each in zip(table, values):
        row[: len(each)] = each
    tasks = random.integers(len(values), size=(resamples, len(values)))
    seeds = (random.random((resamples, len(values), longest)) * counts[tasks][..., None]).astype(int)
    drawn = table[tasks[..., None], seeds]
    is_drawn = np.arange(longest) < counts[tasks][..., None]
    means = (drawn * is_drawn).sum(-1) / counts[tasks]
    low, high = np.quantile(means.mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean([np.mean(each) for each in values])), float(low), float(high))


def mean_rank_correlation(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], level: float = 0.95) -> Interval:
    """Spearman's rank correlation of two quantities within each task, as a mean over tasks.

    Tasks differ in difficulty, so that a correlation over all runs would be one of tasks.

    Args:
        pairs: For each task, the two quantities of its runs; neither is constant.
        level: The level of the interval, a bootstrap over tasks.
    """
    from scipy.stats import spearmanr  # an extra; the rest of the package works without it

    within: list[float] = [float(spearmanr(x, y).statistic) for x, y in pairs]
    return bootstrap_over_tasks_and_seeds([[each] for each in within], level)
