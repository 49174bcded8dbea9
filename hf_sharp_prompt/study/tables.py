"""The study's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from ..experiments.averages import average
from ..experiments.results import Results, in_percent, succeeded
from .choices import Tried
from .plan import REFERENCE, Method
from .results import RADII, Runs, runs_of, values_of
from .statistics import Comparison, Interval, compare


MEASURED = {"base": "base", "novel": "novel", "HM": "hm"}
"""Heading → key of a result."""


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with its title."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join([f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""])


def signed(interval: Interval, scale: float = 100, places: int = 1) -> str:
    """An estimate with its interval; bold if the interval excludes zero."""
    mean, low, high = (f"{scale * each:+.{places}f}" for each in (interval.mean, interval.low, interval.high))
    words = f"{mean} [{low}, {high}]"
    return f"**{words}**" if interval.is_above or interval.is_below else words


def settings_table(tried: Sequence[Tried], chosen: Any) -> str:
    """How CoOp's accuracy goes in each setting."""
    heads = [
        *("shots", "context tokens", "learning rate", "epochs", "base: first epoch", "peak (epoch)", "last"),
        *("novel: first epoch", "peak (epoch)", "last", "novel falls by", ""),
    ]
    rows = []
    for each in tried:
        setting, row = each.setting, []
        for curve in (each.base, each.novel):
            peak = max(curve)
            row += [f"{curve[0]:.1f}", f"{peak:.1f} ({list(curve).index(peak) + 1})", f"{curve[-1]:.1f}"]
        words = [setting.shots, setting.num_text_tokens, setting.learning_rate, setting.num_train_epochs]
        is_chosen = "chosen" if setting == chosen else ""
        rows.append([*map(str, words), *row, f"{each.novel_fall:.1f}", is_chosen])
    return table("The setting: CoOp on the validation splits of `familiar`, seed 1, mean of 8 tasks", heads, rows)


def candidates_table(candidates: Mapping[str, Mapping[Any, float]], methods: Mapping[str, Method]) -> str:
    """What each method's hyperparameter was chosen by; the chosen value is bold."""
    rows = []
    for name, tried in candidates.items():
        method = methods[name]
        words = [
            f"**{value:g}: {hm:.1f}**" if value == method.chosen else f"{value:g}: {hm:.1f}"
            for value, hm in tried.items()
        ]
        rows.append([name, f"`{method.hyperparameter}`", ", ".join(words)])
    title = "Hyperparameters: HM on the validation splits of four tasks of `familiar`, seed 1"
    return table(title, ["method", "hyperparameter", "value: HM"], rows)


def compare_with(reference: str, results: Mapping[str, Results], method: str, key: str) -> Comparison:
    """A method compared with another on the tasks of results by one quantity."""
    return compare(values_of(runs_of(results, method), key), values_of(runs_of(results, reference), key))


def methods_table(title: str, results: Mapping[str, Results], methods: Sequence[str]) -> str:
    """Means over tasks, and the paired differences to CoOp."""
    averages = average(list(results.values()))
    heads = ["method", "seeds", *MEASURED, *(f"{head} − CoOp" for head in MEASURED), "tasks with higher HM", "p"]
    rows = [["zero-shot CLIP", "", *means_of(averages["zero-shot"]), "", "", "", "", ""]]
    for name in methods:
        if not averages.get(name):
            continue
        row = [name, str(len(averages[name])), *means_of(averages[name])]
        if name == REFERENCE:
            rows.append([*row, "", "", "", "", ""])
            continue
        compared = [compare_with(REFERENCE, results, name, key) for key in MEASURED.values()]
        hm = compared[-1]
        p_value = "" if hm.p_value is None else f"{hm.p_value:.3f}"
        rows.append([*row, *(signed(each.difference) for each in compared), f"{hm.wins} of {hm.tasks}", p_value])
    return table(title, heads, rows)


def means_of(runs: Sequence[Mapping[str, Any]], keys: Mapping[str, str] = MEASURED) -> list[str]:
    """The means over seeds, with the standard deviation where there are several."""
    return [in_percent([run[key] for run in runs]) for key in keys.values()]


def tasks_table(title: str, results: Mapping[str, Results], methods: Sequence[str], key: str) -> str:
    """One quantity by method and task, the mean over seeds."""
    rows = []
    for name in ("zero-shot", *methods):
        runs: Runs = {task: dict(enumerate(each.get(name, []))) for task, each in results.items()}
        if name != "zero-shot":
            runs = runs_of(results, name)
        if all(runs.values()):
            rows.append([name, *(in_percent([mean(run[key] for run in each.values())]) for each in runs.values())])
    return table(title, ["method", *results], rows)


LONG_TAIL = {"overall": "overall", "many": "many", "medium": "medium", "few": "few"}
"""Heading → key of a result on long tails."""


def long_tail_table(title: str, results: Results, methods: Sequence[str]) -> str:
    """Means over seeds at one imbalance, with the gradient evaluations of a step."""
    rows = []
    for name in methods:
        runs = succeeded(results.get(name, []))
        if runs:
            gradients = f"{mean(run['evaluations_per_step'] for run in runs):.2f}"
            rows.append([name, str(len(runs)), *means_of(runs, LONG_TAIL), gradients])
    return table(title, ["method", "seeds", *LONG_TAIL, "gradients a step"], rows)


def long_tail_differences(by_imbalance: Mapping[str, Results], methods: Sequence[str], reference: str) -> str:
    """Paired differences to the reference over imbalances and seeds."""
    rows = []
    for name in methods:
        if name != reference and all(succeeded(results.get(name, [])) for results in by_imbalance.values()):
            compared = [compare_with(reference, by_imbalance, name, key) for key in LONG_TAIL.values()]
            rows.append([name, *(signed(each.difference) for each in compared)])
    heads = ["method", *(f"{head} − {reference}" for head in LONG_TAIL)]
    return table("Long tails, all imbalances: differences with 95 % intervals", heads, rows)


QUANTITIES = {
    "training loss": "loss",
    "top eigenvalue": "top_eigenvalue",
    "trace": "trace",
    **{f"rise of the loss within {rho:g}": f"rise_{rho:g}" for rho in RADII},
    "distance from zero-shot texts": "distance",
}
"""Heading → key of an explanation."""


def quantities_of(explanation: Mapping[str, Any]) -> dict[str, float]:
    """What may explain a prompt's accuracy, by key."""
    rises = {f"rise_{rho}": within["worst"] - explanation["loss"] for rho, within in explanation["within"].items()}
    return {**{key: explanation[key] for key in ("loss", "top_eigenvalue", "trace", "distance")}, **rises}


def correlations_table(title: str, correlations: Mapping[str, Mapping[str, Interval]]) -> str:
    """Rank correlations of each quantity with each accuracy."""
    rows = [
        [head, *(signed(correlations[key][accuracy], scale=1, places=2) for accuracy in MEASURED.values())]
        for head, key in QUANTITIES.items()
        if key in correlations
    ]
    return table(title, ["rank correlation with", *MEASURED], rows)
