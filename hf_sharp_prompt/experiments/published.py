"""What papers publish, to stand beside what was measured; the figures are in `published.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml


PATH = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """The figures of one published table.

    Args:
        protocol: The protocol's command.
        of: What the figures are of.
        source: Where they are published.
        columns: The keys of results.
        methods: Recipe → a figure in percent for each column.
        dataset: The data set's name; None for the mean of several.
    """

    protocol: str
    of: str
    source: str
    columns: Sequence[str]
    methods: dict[str, list[float]]
    dataset: str | None = None

    def figures_of(self, method: str) -> dict[str, float]:
        """A method's figures in percent, by key of a result."""
        return dict(zip(self.columns, self.methods[method], strict=True))


@cache
def all_published() -> tuple[Published, ...]:
    """All that is known."""
    return tuple(Published(**entry) for entry in yaml.safe_load(PATH.read_text(encoding="utf-8")))


def find_published(protocol: str, dataset: str | None) -> dict[str, Published]:
    """The published tables that have a method's figures, by method; `dataset` None is the mean of data sets."""
    return {
        method: entry
        for entry in all_published()
        if (entry.protocol, entry.dataset) == (protocol, dataset)
        for method in entry.methods
    }
