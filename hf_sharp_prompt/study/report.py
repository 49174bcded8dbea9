"""Tables and figures of what the study has measured so far."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import numpy as np

from ..experiments.results import Results
from ..files import written_whole
from ..plots import plot_accuracy_by_epoch, plot_angles
from . import choices, claims, tables
from .commands import EPOCHS_BETWEEN, METHODS, TRAJECTORIES, long_tail_directory
from .figures import plot_scatter, plot_spectra
from .plan import LONG_TAIL_REFERENCE, REFERENCE, SUITES, Plan
from .results import Runs, read_explanation, read_results, runs_of
from .statistics import Interval, mean_rank_correlation
from .trajectories import PATH_NAME, Array, early_and_late, share_within, spectrum


logger = logging.getLogger(__name__)

REPORT_NAME = "report.md"
BY_EPOCH = ("zero-shot", "coop", "coop_sam", "gcscoop", "subpt", "subpt_nfl", "kgcoop")
STRETCH, RANK = 15, 5  # Epochs of the early and of the late path, and the directions that their variance is told in.


def write_report(plan: Plan, output_dir: Path) -> Path:
    """Write the tables into `report.md` and the figures beside it.

    Args:
        plan: The plan.
        output_dir: The study's directory. What has not been run is left out.

    Returns:
        The path of `report.md`.
    """
    parts: list[str] = []
    suites = {suite: read_results(output_dir / METHODS, tasks) for suite, tasks in SUITES.items()}
    parts += describe_choices(plan, output_dir)
    for suite, results in suites.items():
        parts += describe_suite(plan, suite, results)
    explained = {name: explained_runs(suites["familiar"], name) for name in plan.methods}
    explained = {name: runs for name, runs in explained.items() if any(runs.values())}
    correlations = correlate(explained)
    if correlations:
        title = "What goes with accuracy: mean rank correlation within a task of `familiar`, all methods and seeds"
        parts.append(tables.correlations_table(title, correlations))
    paths = read_paths(output_dir)
    early, late = ({task: variance_share(stretch) for task, stretch in each.items()} for each in paths)
    long_tail = {
        imbalance: results
        for imbalance in plan.long_tail.imbalance_factors
        for results in read_results(long_tail_directory(output_dir, imbalance), ["long_tail_night"]).values()
    }
    parts += describe_long_tail(plan, long_tail)
    evidence = claims.Evidence(suites["familiar"], explained, correlations, early, late, long_tail, EPOCHS_BETWEEN)
    parts.append(claims.claims_table(evidence))
    draw(output_dir, suites["familiar"], explained, paths)
    path = output_dir / REPORT_NAME
    with written_whole(path) as unfinished:
        unfinished.write_text("\n".join(parts), encoding="utf-8")
    return path


def describe_choices(plan: Plan, output_dir: Path) -> list[str]:
    """The tables of the choices."""
    parts = []
    tried = choices.read_tried(plan, output_dir)
    if tried:
        parts.append(tables.settings_table(tried, plan.setting))
        found = choices.choose_setting([each for each in tried if each.setting.num_train_epochs <= plan.max_epochs])
        if found != plan.setting:
            logger.warning(f"The rule chooses {found} here, and the plan has {plan.setting}.")
    candidates = choices.read_candidates(plan, output_dir)
    if candidates:
        parts.append(tables.candidates_table(candidates, plan.methods))
    for name, values in candidates.items():
        value = choices.choose_candidate(values)
        if value != plan.methods[name].chosen:
            logger.warning(f"The rule chooses {value} for {name} here, and the plan has {plan.methods[name].chosen}.")
    return parts


def describe_suite(plan: Plan, suite: str, results: Mapping[str, Results]) -> list[str]:
    """The tables of a suite."""
    if not results:
        return []
    shots = plan.setting.shots
    title = f"`{suite}`: mean of {len(results)} tasks, {shots} shots; differences with 95 % intervals"
    return [
        tables.methods_table(title, results, list(plan.methods)),
        tables.tasks_table(f"`{suite}`: HM by task", results, list(plan.methods), "hm"),
    ]


def describe_long_tail(plan: Plan, long_tail: Mapping[int, Results]) -> list[str]:
    """The tables of long tails."""
    by_imbalance = {str(imbalance): results for imbalance, results in long_tail.items()}
    if not by_imbalance:
        return []
    return [
        tables.long_tail_table(f"Long tails, imbalance {imbalance}", results, list(plan.long_tail.methods))
        for imbalance, results in by_imbalance.items()
    ] + [tables.long_tail_differences(by_imbalance, list(plan.long_tail.methods), LONG_TAIL_REFERENCE)]


def explained_runs(results: Mapping[str, Results], method: str) -> Runs:
    """The runs of a method with what may explain their accuracy, by task and seed."""
    return {
        task: {
            seed: {**run, **tables.quantities_of(explanation)}
            for seed, run in seeds.items()
            if (explanation := read_explanation(run)) is not None
        }
        for task, seeds in runs_of(results, method).items()
    }


def correlate(explained: Mapping[str, Runs]) -> dict[str, dict[str, Interval]]:
    """By quantity and accuracy, the mean rank correlation within tasks, over the runs of all methods."""
    by_task: dict[str, list[dict[str, float]]] = {}
    for runs in explained.values():
        for task, seeds in runs.items():
            by_task.setdefault(task, []).extend(seeds.values())
    samples = [runs for runs in by_task.values() if len(runs) > 2]
    if not samples:
        return {}
    return {
        key: {
            accuracy: mean_rank_correlation(
                [([run[key] for run in runs], [run[accuracy] for run in runs]) for runs in samples]
            )
            for accuracy in tables.MEASURED.values()
        }
        for key in tables.QUANTITIES.values()
    }


def read_paths(output_dir: Path) -> list[dict[str, Array]]:
    """The early and the late path of CoOp's prompt, by task."""
    files = {task: output_dir / TRAJECTORIES / task / REFERENCE / "seed1" / PATH_NAME for task in SUITES["familiar"]}
    paths = {task: np.load(file, allow_pickle=False) for task, file in files.items() if file.is_file()}
    stretches = [early_and_late(path, STRETCH) for path in paths.values()]
    return [dict(zip(paths, each)) for each in zip(*stretches)] or [{}, {}]


def variance_share(path: Array) -> float:
    """The share of a path's variance along its first directions."""
    return share_within(path, spectrum(path)[1][:RANK])


def draw(
    output_dir: Path, results: Mapping[str, Results], explained: Mapping[str, Runs], paths: list[dict[str, Array]]
) -> None:
    """Draw the figures of the suite `familiar`."""
    title = "familiar, mean of the tasks"
    histories = {name: curves for name in BY_EPOCH if (curves := mean_curves(results, name))}
    if any(len(curve["base"]) > 1 for curves in histories.values() for curve in curves):
        file = output_dir / "accuracy_by_epoch.png"
        plot_accuracy_by_epoch(histories, file, title, epochs_between=EPOCHS_BETWEEN)
    cosines = {name: angles for name in ("coop_sam", "gcscoop") if (angles := mean_cosines(results, name))}
    if cosines:
        plot_angles(cosines, output_dir / "angles.png", title)
    if paths[0]:
        stretches = {
            f"epochs 1 to {STRETCH}": list(paths[0].values()),
            f"the last {STRETCH} epochs": list(paths[1].values()),
        }
        plot_spectra(stretches, output_dir / "eigenvalues.png", "CoOp's path: eigenvalues of its covariance, familiar")
    for accuracy, label in (("novel", "novel accuracy (%)"), ("base", "base accuracy (%)"), ("hm", "HM (%)")):
        panels = {head: mean_points(explained, key, accuracy) for head, key in tables.QUANTITIES.items()}
        if any(panels.values()):
            plot_scatter(panels, output_dir / f"{accuracy}_explained.png", "familiar, mean of tasks and seeds", label)


def mean_curves(results: Mapping[str, Results], method: str) -> list[dict[str, list[float]]]:
    """Per seed, the curves of base and novel accuracy as means over tasks, of seeds that were measured on the way."""
    runs = (
        runs_of(results, method)
        if method != "zero-shot"
        else {task: {0: each[method][0]} for task, each in results.items()}
    )
    if not runs:
        return []
    common = set.intersection(*(set(each) for each in runs.values()))
    curves = [[seeds[seed]["history"] for seeds in runs.values()] for seed in sorted(common)]
    if method != "zero-shot":
        curves = [each for each in curves if all(len(curve["base"]) > 1 for curve in each)]
    return [
        {half: [mean(at) for at in zip(*(curve[half] for curve in each))] for half in ("base", "novel")}
        for each in curves
    ]


def mean_cosines(results: Mapping[str, Results], method: str) -> list[list[float]]:
    """Per seed, the cosine between the gradient and the perturbed one by epoch, as a mean over tasks."""
    runs = runs_of(results, method)
    if not runs:
        return []
    common = set.intersection(*(set(each) for each in runs.values()))
    return [[mean(at) for at in zip(*(seeds[seed]["cosines"] for seeds in runs.values()))] for seed in sorted(common)]


def mean_points(explained: Mapping[str, Runs], key: str, accuracy: str) -> dict[str, tuple[float, float]]:
    """Each method's mean of a quantity and of an accuracy in percent."""
    runs = {name: [run for seeds in each.values() for run in seeds.values()] for name, each in explained.items()}
    return {
        name: (mean(run[key] for run in each), 100 * mean(run[accuracy] for run in each))
        for name, each in runs.items()
        if each
    }
