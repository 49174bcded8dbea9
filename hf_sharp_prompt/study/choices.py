"""What the validation splits choose: the setting, by plain CoOp, and each method's own hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..experiments.averages import HALVES, average
from ..experiments.results import Results, succeeded
from .commands import candidate_name, setting_directory
from .plan import SUITES, Plan, Setting
from .results import read_results


RISE, FALL, EQUAL = 1.0, 0.5, 0.5
"""In percentage points: how much base accuracy rises and falls at least, and which novel falls count as equal."""


@dataclass(frozen=True)
class Tried:
    """How CoOp's accuracy goes over the epochs in a setting, in percent.

    Args:
        setting: The setting.
        base: After each epoch, the mean accuracy on base classes.
        novel: The same on novel classes.
    """

    setting: Setting
    base: Sequence[float]
    novel: Sequence[float]

    @property
    def base_rise(self) -> float:
        """The largest base accuracy less that after the first epoch."""
        return max(self.base) - self.base[0]

    @property
    def base_fall(self) -> float:
        """The largest base accuracy less the last."""
        return max(self.base) - self.base[-1]

    @property
    def novel_fall(self) -> float:
        """The largest novel accuracy less the last."""
        return max(self.novel) - self.novel[-1]


def read_tried(plan: Plan, output_dir: Path) -> list[Tried]:
    """Read what the settings' runs measured; those that have not been run are left out."""
    tried = []
    for setting in plan.settings:
        results = read_results(setting_directory(output_dir, setting.shots), SUITES["familiar"])
        runs = [each[setting.name][0]["history"] for each in results.values() if succeeded(each.get(setting.name, []))]
        if not runs:
            continue
        curves = {half: [100 * sum(each) / len(runs) for each in zip(*(run[half] for run in runs))] for half in HALVES}
        tried.append(Tried(setting, curves["base"], curves["novel"]))
    return tried


def choose_setting(tried: Sequence[Tried]) -> Setting:
    """Choose the setting by the rule of the plan.

    Args:
        tried: The settings.

    Raises:
        ValueError: Base accuracy rises in none.
    """
    rises = [each for each in tried if each.base_rise >= RISE]
    shows = [each for each in rises if each.base_fall >= FALL] or rises
    if not shows:
        raise ValueError(f"In no setting does base accuracy rise by {RISE:g} point.")
    most = max(each.novel_fall for each in shows)
    equal = [each for each in shows if each.novel_fall >= most - EQUAL]
    return min(equal, key=lambda each: (each.setting.shots * each.setting.num_train_epochs, -each.novel_fall)).setting


def read_candidates(plan: Plan, output_dir: Path) -> dict[str, dict[Any, float]]:
    """Read, for each method whose candidates have been run, the harmonic mean by candidate, in percent."""
    results = read_results(output_dir / "hyperparameters", plan.hyperparameter_tasks)
    averages: Results = average(list(results.values()))
    return {
        name: {value: 100 * averages[candidate_name(name, value)][0]["hm"] for value in method.candidates}
        for name, method in plan.methods.items()
        if method.candidates and all(candidate_name(name, value) in averages for value in method.candidates)
    }


def with_choices(plan: Plan, output_dir: Path) -> Plan:
    """A plan in which hyperparameters that it does not choose are those that the candidates' results choose.

    Args:
        plan: The plan.
        output_dir: The study's directory. Where candidates have not been run, nothing is chosen.
    """
    candidates = read_candidates(plan, output_dir)
    methods = {
        name: replace(method, chosen=choose_candidate(candidates[name]))
        if method.chosen is None and name in candidates
        else method
        for name, method in plan.methods.items()
    }
    return replace(plan, methods=methods)


def choose_candidate(candidates: Mapping[Any, float]) -> Any:
    """The candidate with the highest harmonic mean, the first of equal ones."""
    return max(candidates, key=lambda value: candidates[value])
