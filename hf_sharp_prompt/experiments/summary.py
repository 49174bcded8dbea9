"""The papers' tables from directories of results, whatever protocols, data sets, methods and seeds are in them.

Without torch, so that results are summarized at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .averages import average
from .published import Published, find_published
from .record import Record, count_once, find_records, in_words
from .results import Result, Results, succeeded


MEANS_OF = ("base2novel", "few_shot")
"""The protocols whose papers report means over data sets."""
CURVE = "few_shot"
"""The protocol with a table for each data set whose columns are numbers of shots."""


@dataclass
class Group:
    """All results of one experiment, perhaps of several directories.

    Args:
        protocol: The protocol's command.
        dataset: What the data set is called.
        setting: What a reader needs to know, by name.
        columns: Heading → key of a result.
        results: The results by method, each in the order of seeds.
        model: The fingerprint of the base model.
        smoke: Whether a few images and epochs were only tried.
        directories: Where the results are, with their records.
    """

    protocol: str
    dataset: str
    setting: dict[str, Any]
    columns: dict[str, str]
    results: Results
    model: str | None = None
    smoke: bool = False
    directories: dict[Path, Record] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The data set and the setting in words."""
        return ", ".join([self.dataset, *in_words(self.setting)])

    def without(self, name: str) -> str:
        """The setting as a key, without one part of it."""
        return json.dumps({key: value for key, value in self.setting.items() if key != name}, sort_keys=True)


@dataclass
class SummaryTable:
    """A table of methods.

    Args:
        protocol: The protocol's command.
        title: The title.
        headings: The columns' headings.
        rows: By method, for each heading the value of each run, in [0, 1]; None is undefined.
        published: By method, for each heading the published figure in percent; None is not known.
        sources: What published figures are of, and where they are published.
        combines: How many experiments it combines.
        smoke: Whether a few images and epochs were only tried.
    """

    protocol: str
    title: str
    headings: list[str]
    rows: dict[str, list[list[float | None]]]
    published: dict[str, list[float | None]] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    combines: int = 1
    smoke: bool = False

    def count(self, method: str) -> str:
        """How many runs a method has, as a range where columns differ."""
        fewest, most = (extreme(map(len, self.rows[method])) for extreme in (min, max))
        return str(most) if fewest == most else f"{fewest}–{most}"


def gather(directories: Iterable[Path]) -> list[Group]:
    """Gather all results in trees of directories.

    Args:
        directories: Output directories, or parts of them.

    Returns:
        A group for each experiment. Directories with the same experiment are one; of a seed that two of them hold, one
        is counted. A smoke test's results are left out where there are others.

    Raises:
        ValueError: A directory does not exist, or a record cannot be read.
    """
    groups: dict[str, list[tuple[Path, Record]]] = {}
    for directory, record in find_records(directories).items():
        what = [record.protocol, record.dataset, record.setting, record.smoke, record.identity]
        key = json.dumps(what, sort_keys=True)
        groups.setdefault(key, []).append((directory, record))
    merged = [merge(members) for members in groups.values()]
    real = [group for group in merged if not group.smoke]
    return distinguish(real or merged)


def merge(members: Sequence[tuple[Path, Record]]) -> Group:
    """Merge the results of directories with the same experiment."""
    first = members[0][1]
    by_method: dict[str, list[tuple[Path, Result]]] = {}
    for directory, record in members:
        for method, runs in record.collect(directory).items():
            by_method.setdefault(method, []).extend((directory, run) for run in runs)
    results = {
        method: sorted(count_once(runs, f"{method} on {first.title}"), key=lambda run: run.get("seed", 0))
        for method, runs in by_method.items()
    }
    columns = {heading: key for _, record in members for heading, key in record.columns.items()}
    model = first.identity.get("model_fingerprint")
    return Group(first.protocol, first.dataset, first.setting, columns, results, model, first.smoke, dict(members))


def distinguish(groups: list[Group]) -> list[Group]:
    """Name the directory of groups that have the same title, such as those of two base models."""
    titles = [(group.protocol, group.title) for group in groups]
    return [
        dataclasses.replace(group, dataset=f"{group.dataset} in {next(iter(group.directories))}")
        if titles.count((group.protocol, group.title)) > 1
        else group
        for group in groups
    ]


def make_tables(groups: Sequence[Group]) -> list[SummaryTable]:
    """Make the papers' tables: of each experiment, of means over data sets, and of numbers of shots."""
    tables: list[SummaryTable] = []
    for protocol in dict.fromkeys(group.protocol for group in groups):
        own = [group for group in groups if group.protocol == protocol]
        means = mean_groups(own) if protocol in MEANS_OF else []
        if protocol == CURVE:
            tables += [make_curve_table(curve) for curve in curves_of([*own, *means])]
        else:
            tables += [make_table(group, None if means else find_published(protocol, None)) for group in own]
            tables += [make_table(group, find_published(protocol, None)) for group in means]
    return tables


def combined_tables(directories: Iterable[Path]) -> list[SummaryTable]:
    """The tables that several experiments make together."""
    return [table for table in make_tables(gather(directories)) if table.combines > 1]


def mean_groups(groups: Sequence[Group]) -> list[Group]:
    """Means over the data sets that have the same setting and base model."""
    alike: dict[str, list[Group]] = {}
    for group in groups:
        alike.setdefault(json.dumps([group.setting, group.model, list(group.columns)]), []).append(group)
    return [
        dataclasses.replace(
            members[0],
            dataset=f"mean of {len(members)} data sets",
            results=average([group.results for group in members], list(members[0].columns.values())),
            directories={path: record for group in members for path, record in group.directories.items()},
        )
        for members in alike.values()
        if len(members) > 1
    ]


def make_table(group: Group, published_mean: dict[str, Published] | None) -> SummaryTable:
    """Make the table of one experiment, or of a mean over data sets.

    Args:
        group: The results.
        published_mean: Published means over data sets, where the data set has no figures of its own.
    """
    rows = {
        method: [[run.get(key) for run in succeeded(runs)] for key in group.columns.values()]
        for method, runs in group.results.items()
    }
    known = find_published(group.protocol, group.dataset) or published_mean or {}
    published = {method: known[method] for method in rows if method in known}
    return SummaryTable(
        group.protocol,
        group.title,
        list(group.columns),
        rows,
        {method: list(map(each.figures_of(method).get, group.columns.values())) for method, each in published.items()},
        list(dict.fromkeys(f"{each.of} ({each.source})" for each in published.values())),
        len(group.directories),
        group.smoke,
    )


def curves_of(groups: Sequence[Group]) -> list[dict[str, Group]]:
    """The few-shot results that are one curve: by number of shots, in their order."""
    curves: dict[str, list[Group]] = {}
    for group in groups:
        curves.setdefault(f"{group.dataset} {group.without('shots')} {group.model}", []).append(group)
    return [
        {str(group.setting["shots"]): group for group in sorted(members, key=lambda each: as_number(each.setting))}
        for members in curves.values()
    ]


def as_number(setting: dict[str, Any]) -> float:
    """A number of shots to sort by; all come last."""
    shots = setting["shots"]
    return shots if isinstance(shots, int) else float("inf")


def curve_title(curve: dict[str, Group]) -> str:
    """The data set and what else the setting says than the number of shots."""
    group = next(iter(curve.values()))
    return ", ".join([group.dataset, *in_words({key: each for key, each in group.setting.items() if key != "shots"})])


def make_curve_table(curve: dict[str, Group]) -> SummaryTable:
    """Make the table of accuracies by number of shots."""
    methods = dict.fromkeys(method for group in curve.values() for method in group.results)
    rows = {
        method: [[run.get("accuracy") for run in succeeded(group.results.get(method, []))] for group in curve.values()]
        for method in methods
    }
    headings = [f"{shots} {'shot' if shots == '1' else 'shots'}" for shots in curve]
    some = next(iter(curve.values()))
    return SummaryTable(CURVE, curve_title(curve), headings, rows, combines=len(curve), smoke=some.smoke)
