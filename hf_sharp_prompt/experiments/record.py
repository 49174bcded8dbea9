"""What an experiment's directory says about itself: protocol, data, setting, and the commands that filled it.

Without torch, so that results are summarized at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .results import Result, Results, collect, read_json, warn_once, write_json


RECORD_NAME = "experiment.json"


@dataclass
class Record:
    """An experiment: one data set under a protocol.

    Args:
        protocol: The protocol's command, for instance `base2novel`.
        dataset: What the data set is called.
        setting: What a reader needs to know, for instance `{"shots": 16}`.
        columns: Heading → key of a result in [0, 1].
        identity: What all runs have in common; others in the directory belong to another experiment.
        base_model: A Python expression that loads the base model, and the imports that it needs, by line.
        smoke: Whether a few images and epochs were only tried.
        baselines: The results of what is not trained, by name.
        commands: The command lines that have run, oldest first.
    """

    protocol: str
    dataset: str
    setting: dict[str, Any]
    columns: dict[str, str]
    identity: dict[str, Any]
    base_model: list[str]
    smoke: bool = False
    baselines: Results = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The data set and the setting in words."""
        return ", ".join([self.dataset, *in_words(self.setting)])

    def write(self, directory: Path) -> None:
        """Write the record into the experiment's directory; commands and baselines that are there stay."""
        earlier = read_record(directory)
        if earlier is not None:
            self.commands = list(dict.fromkeys([*earlier.commands, *self.commands]))
            self.baselines = {**earlier.baselines, **self.baselines}
        write_json(directory / RECORD_NAME, dataclasses.asdict(self))

    def collect(self, directory: Path) -> Results:
        """The results in the experiment's directory: baselines, then methods by name, each in the order of seeds."""
        return {**self.baselines, **collect(directory, self.identity, {})}


def in_words(setting: dict[str, Any]) -> list[str]:
    """A setting as it stands in titles: `16 shots`, `split validation`."""
    return [
        f"{value} {'shot' if value == 1 else 'shots'}" if name == "shots" else f"{name} {value}"
        for name, value in setting.items()
    ]


def read_record(directory: Path) -> Record | None:
    """Read an experiment's record; None if there is none.

    Raises:
        ValueError: The file is not a record.
    """
    path = directory / RECORD_NAME
    content = read_json(path)
    if content is None:
        return None
    fields = {each.name for each in dataclasses.fields(Record)}
    try:
        return Record(**{name: value for name, value in content.items() if name in fields})
    except TypeError as error:
        raise ValueError(f"{path} does not describe an experiment; delete it, and run its command again.") from error


def find_records(directories: Iterable[Path]) -> dict[Path, Record]:
    """Find the experiments in trees of directories, each once, sorted by path within a tree.

    Raises:
        ValueError: A directory does not exist.
    """
    found: dict[Path, Record] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ValueError(f"There is no directory {directory}; give the output directory of experiments.")
        known = {path.resolve() for path in found}
        for path in sorted(each.parent for each in directory.rglob(RECORD_NAME)):
            if path.resolve() not in known and (record := read_record(path)) is not None:
                found[path] = record
    return found


def count_once(runs: Iterable[tuple[Path, Result]], what: str) -> list[Result]:
    """Results of a method, one for each seed: a seed that two directories hold is counted once, with a warning."""
    kept: dict[Any, tuple[Path, Result]] = {}
    for directory, result in runs:
        seed = result.get("seed")
        if seed not in kept:
            kept[seed] = (directory, result)
        elif seed is not None:
            warn_once(
                f"{kept[seed][0]} and {directory} both hold seed {seed} of {what}; that of {directory} is left out."
            )
    return [result for _, result in kept.values()]
