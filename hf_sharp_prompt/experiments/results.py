"""What runs measured: as JSON, as text for people, and collected from the directories of finished runs."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..files import written_whole
from ..printable import printable


logger = logging.getLogger(__name__)

Result = dict[str, Any]
"""The result of a run: what was measured, its seed, the seconds that training took and the adapter's directory. A run
that failed has one sentence under `failed` instead."""
Results = dict[str, list[Result]]
"""By method, a result per seed."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
RESULT_NAME = "metrics.json"
IDENTITY_NAME = "_settings.json"  # The underscore keeps it from being pushed to the Hub.


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file completely or not at all. Numbers that JSON does not have, NaN and infinities, become null."""
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(without_nan(content), indent=2, allow_nan=False), encoding="utf-8")


def without_nan(content: Any) -> Any:
    """Replace numbers that are not finite by None, in dictionaries and lists too."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no such file.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete the file, or its directory.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object; delete the file, or its directory.")
    return content


def succeeded(runs: Sequence[Result]) -> list[Result]:
    """The runs that did not fail."""
    return [run for run in runs if "failed" not in run]


def checksums(directory: Path) -> dict[str, str]:
    """The checksums of an adapter's files, by their names."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in ADAPTER_FILES}


def find_result(directory: Path) -> Result | None:
    """The result of a finished run, whose adapter is the one that was loaded back and measured.

    Returns:
        None if the run is not finished, or if its adapter is gone, so that it has to be trained again.

    Raises:
        ValueError: The adapter is another one.
    """
    result = read_json(directory / RESULT_NAME)
    if result is None:
        return None
    if missing := [name for name in ADAPTER_FILES if not (directory / name).is_file()]:
        logger.warning(f"{directory} has lost {' and '.join(missing)}, so it is not finished.")
        return None
    found = checksums(directory)
    if changed := [name for name, checksum in found.items() if result.get("files", {}).get(name) != checksum]:
        raise ValueError(
            f"{' and '.join(changed)} in {directory} is not what was measured. Restore it, or delete the directory to "
            "train again."
        )
    return result | {"adapter": str(directory)}


def collect(directory: Path, experiment: dict[str, Any], results: Results) -> Results:
    """Add the finished runs of earlier commands to the results of this one.

    Args:
        directory: The experiment's directory: `METHOD/seedN` in it are the directories of runs.
        experiment: What identifies the experiment. Runs of another one are left out, and a warning says so.
        results: This command's results.

    Returns:
        This command's methods first, then the others by name; the runs of a method in the order of their seeds.
    """
    collected = {method: list(runs) for method, runs in results.items()}
    for path in sorted(directory.glob(f"*/seed*/{RESULT_NAME}")):
        run, method = path.parent, path.parent.parent.name
        if run.name in {f"seed{each['seed']}" for each in collected.get(method, ())}:
            continue
        try:
            held, result = read_json(run / IDENTITY_NAME) or {}, find_result(run)
        except ValueError as error:
            warn_once(f"{run} is left out of the summary: {error}")
            continue
        if changed := [name for name in experiment if held.get(name) != experiment[name]]:
            warn_once(f"{run} is left out of the summary: it differs in {', '.join(changed)}.")
        elif result is not None:
            collected.setdefault(method, []).append(result)
    return {method: sorted(runs, key=lambda run: run.get("seed", 0)) for method, runs in collected.items()}


@cache
def warn_once(message: str) -> None:
    """Log a warning, unless this process has: a command reads the same results for its tables, figures and index."""
    logger.warning(message)


def count_failures(results: Results) -> int:
    """How many runs failed."""
    return sum("failed" in run for runs in results.values() for run in runs)


def in_percent(values: Sequence[float | None]) -> str:
    """The mean and, of several, the standard deviation; a dash if a value is undefined or there are none."""
    defined = [value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return "–"
    return f"{100 * mean(defined):.1f}" + (f" ± {100 * stdev(defined):.1f}" if len(defined) > 1 else "")


def in_words(result: Result, columns: Mapping[str, str]) -> str:
    """One run's line: what was measured, under the names of the table's columns."""
    if "failed" in result:
        return f"FAILED: {result['failed']}"
    measured = ", ".join(f"{name} {in_percent([result.get(key)])}" for name, key in columns.items())
    return f"{measured} in {result['seconds']:.1f} s"


def name_of_row(method: str, runs: Sequence[Result]) -> str:
    """A method's name in a table, with how many of its runs failed."""
    failed = len(runs) - len(succeeded(runs))
    return f"{method} ({failed} of {len(runs)} failed)" if failed else method


def printable_lines(text: str) -> str:
    """Text of several lines without control characters, which a terminal would obey."""
    return "\n".join(printable(line) for line in text.expandtabs().split("\n"))
