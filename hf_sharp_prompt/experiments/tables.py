"""The tables that an experiment prints."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from rich.table import Column, Table

from .results import Results, in_percent, name_of_row, succeeded
from .summary import SummaryTable


COSTS = {"seconds a run": ("seconds", 1)}
"""Heading → key of a result and its decimal places."""


def make_table(
    title: str, results: Results, columns: Mapping[str, str], costs: Mapping[str, tuple[str, int]] = COSTS
) -> Table:
    """Make a table of the methods, with means and standard deviations over their runs.

    Args:
        title: The title.
        results: The runs' results by method.
        columns: Heading → key of a result in [0, 1], which is shown in percent.
        costs: Heading → key of a result, which is shown as a mean, and its decimal places.
    """
    table = Table(Column("method", no_wrap=True), *columns, *costs, title=title, title_justify="left")
    for name, runs in results.items():
        finished = succeeded(runs)
        shown = [in_percent([run.get(key) for run in finished]) for key in columns.values()]
        for key, places in costs.values():
            measured = [run[key] for run in finished if run.get(key)]
            shown.append(f"{mean(measured):.{places}f}" if measured else "")
        table.add_row(name_of_row(name, runs), *shown)
    return table


def as_rich(table: SummaryTable) -> Table:
    """Make a table to print of one that combines several experiments."""
    printed = Table(Column("method", no_wrap=True), *table.headings, "n", title=table.title, title_justify="left")
    for method, values in table.rows.items():
        printed.add_row(method, *map(in_percent, values), table.count(method))
    return printed
