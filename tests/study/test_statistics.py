"""Paired differences, their intervals and rank correlations."""

import numpy as np
import pytest
from scipy.stats import spearmanr, wilcoxon

from hf_sharp_prompt.study.statistics import (
    bootstrap_over_tasks_and_seeds,
    compare,
    mean_rank_correlation,
    paired,
)


def test_methods_meet_on_the_same_task_and_seed():
    ours = {"a": {1: 0.5, 2: 0.7}, "b": {1: 0.4}, "c": {1: 1.0}}
    theirs = {"a": {1: 0.4, 2: 0.9, 3: 0.1}, "b": {2: 0.3}}
    assert paired(ours, theirs) == {"a": [pytest.approx(0.1), pytest.approx(-0.2)], "b": []}


def test_the_bootstrap_draws_tasks_and_then_seeds_of_each():
    """Against loops that do so one draw at a time; tasks have 2, 3 and 5 seeds."""
    values = [[1.0, 2.0], [10.0, 14.0, 12.0], [-3.0, 0.0, 1.0, 5.0, 2.0]]
    found = bootstrap_over_tasks_and_seeds(values, level=0.9, resamples=20_000)
    random, means = np.random.default_rng(1), []
    for _ in range(4_000):
        drawn = [values[index] for index in random.integers(3, size=3)]
        means.append(np.mean([np.mean(random.choice(each, size=len(each))) for each in drawn]))
    low, high = np.quantile(means, [0.05, 0.95])
    assert found.mean == pytest.approx(np.mean([1.5, 12.0, 1.0]))
    assert found.low == pytest.approx(low, abs=0.3)
    assert found.high == pytest.approx(high, abs=0.3)


def test_one_task_has_the_interval_of_its_seeds():
    found = bootstrap_over_tasks_and_seeds([[1.0, 2.0, 3.0]])
    assert found.mean == 2
    assert 1 <= found.low < 2 < found.high <= 3


def test_the_interval_is_the_same_every_time():
    values = [[0.1, 0.2], [0.3, -0.1]]
    assert bootstrap_over_tasks_and_seeds(values) == bootstrap_over_tasks_and_seeds(values)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """The percentile interval of eight tasks is a little narrow, as is known; far off would be a mistake."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        tasks = random.normal(0.3, 1.0, size=(8, 1)) + random.normal(0, 0.5, size=(8, 3))
        found = bootstrap_over_tasks_and_seeds(tasks.tolist(), resamples=500)
        covered += found.low <= 0.3 <= found.high
    assert 0.84 <= covered / 200 <= 0.98


def test_a_comparison_tells_the_difference_the_wins_and_wilcoxons_p():
    reference = {f"task{index}": {1: 0.5, 2: 0.6} for index in range(6)}
    gains = [0.01, 0.02, -0.005, 0.03, 0.04, 0.05]
    better = {
        name: {seed: value + gain for seed, value in seeds.items()}
        for (name, seeds), gain in zip(reference.items(), gains)
    }
    found = compare(better, reference)
    assert found.difference.mean == pytest.approx(np.mean(gains))
    assert (found.wins, found.tasks, found.seeds) == (5, 6, 2)
    assert found.p_value == pytest.approx(wilcoxon(gains).pvalue)
    assert compare(reference, reference).p_value is None, "no difference has no rank"
    assert compare({"task0": {1: 1.0}}, reference).p_value is None, "too few tasks"


def test_methods_that_never_meet_are_not_compared():
    with pytest.raises(ValueError, match="no task and seed in common"):
        compare({"a": {1: 0.5}}, {"a": {2: 0.5}})


def test_rank_correlations_are_within_tasks():
    """Over both tasks together, x and y would rise together."""
    x, y = [1.0, 2.0, 3.0, 4.0], [4.0, 2.0, 3.0, 1.0]
    harder = [value + 100 for value in x], [value + 100 for value in y]
    found = mean_rank_correlation([(x, y), harder])
    assert found.mean == pytest.approx(spearmanr(x, y).statistic)
    assert found.is_below
