"""Commands as processes of one thread each, several at a time.

On few cores this is faster than one process of many threads: the demo's steps are small, so that threads wait for each
other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..files import written_whole
from .commands import Command


def run(commands: Sequence[Command], processes: int, directory: Path) -> Iterator[tuple[Command, int]]:
    """Run the commands that have not succeeded before.

    A command whose words have changed is run again; what it finds finished in its output directory it does not repeat.

    Args:
        commands: The commands, in the order in which they are started.
        processes: How many run at a time.
        directory: Where each command's output goes, into `NAME.log`, and a note that it succeeded, `NAME.json`.

    Yields:
        Each command and its exit code, as it ends.
    """
    directory.mkdir(parents=True, exist_ok=True)
    waiting = [command for command in commands if not has_succeeded(command, directory)]
    with ThreadPoolExecutor(processes) as threads:
        futures = {threads.submit(run_one, command, directory): command for command in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def has_succeeded(command: Command, directory: Path) -> bool:
    """Whether this very command has succeeded before."""
    note = directory / f"{command.name}.json"
    return note.is_file() and json.loads(note.read_text(encoding="utf-8")) == list(command.words)


def run_one(command: Command, directory: Path) -> int:
    """Run a command in a process of one thread; returns its exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    with (directory / f"{command.name}.log").open("w", encoding="utf-8") as log:
        finished = subprocess.run(
            [sys.executable, "-m", command.module, *command.words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    if finished.returncode == 0:
        with written_whole(directory / f"{command.name}.json") as unfinished:
            unfinished.write_text(json.dumps(list(command.words)), encoding="utf-8")
    return finished.returncode
