"""Keep what was found out about image files, such as a hash of their content, until they change."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import NamedTuple

from huggingface_hub import cached_assets_path


_BATCH = 1024
"""Number of files that are looked up at a time."""

_SETTLED = 2.0
"""Seconds after which a file that changes has another time: file systems count in steps of up to two seconds."""


class Status(NamedTuple):
    """What changes when a file changes; None for a file that is not there.

    A program can set a file's modification time, but not the time of its last change (ctime). So a file that was
    replaced by one of the same size and time is noticed.
    """

    inode: int
    size: int
    modified: int
    changed: int


class FileCache:
    """Facts about files, as text, in an SQLite file that all processes share.

    It lies in Hugging Face's assets cache (`HF_ASSETS_CACHE`) and may be deleted at any time. Where it cannot be read
    or written, facts are found out again.

    Args:
        kind: Which facts, such as `digests`; the name of the file.
        find_out: Path → the fact. Several threads call it.
    """

    def __init__(self, kind: str, find_out: Callable[[str], str]) -> None:
        self.kind, self.find_out = kind, find_out

    def facts(self, paths: Sequence[str]) -> Iterator[str]:
        """Look up the facts about files, or find them out.

        Args:
            paths: The paths of the files, which must exist.

        Yields:
            The fact about each file, in their order.

        Raises:
            OSError: A file that does not exist.
        """
        remaining = iter(paths)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, self._connect() as database:
            while batch := list(islice(remaining, _BATCH)):
                status_of = {path: status_of_file(path) for path in batch}
                known = _look_up(database, status_of)
                unknown = [path for path in status_of if path not in known]
                known |= zip(unknown, pool.map(self.find_out, unknown), strict=True)
                _keep(database, {path: (status_of[path], known[path]) for path in unknown})
                yield from (known[path] for path in batch)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection | None]:
        try:
            path = cached_assets_path("hf_sharp_prompt", "files") / f"{self.kind}.sqlite"
            database = sqlite3.connect(path, timeout=10, isolation_level=None)
        except (sqlite3.Error, OSError, ValueError):  # a ValueError if a file is in the folder's place
            yield None
            return
        with closing(database):
            yield database


def status_of_file(path: str) -> Status:
    """Return the status of a file.

    Raises:
        OSError: There is no such file.
    """
    found = os.stat(path)
    return Status(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _look_up(database: sqlite3.Connection | None, status_of: Mapping[str, Status]) -> dict[str, str]:
    if database is None:
        return {}
    marks = ", ".join("?" * len(status_of))
    try:
        database.execute("CREATE TABLE IF NOT EXISTS facts (path TEXT PRIMARY KEY, status TEXT, fact TEXT)")
        rows = database.execute(f"SELECT path, status, fact FROM facts WHERE path IN ({marks})", [*status_of])
        return {path: fact for path, status, fact in rows if status == repr(tuple(status_of[path]))}
    except (sqlite3.Error, UnicodeError):
        return {}


def _keep(database: sqlite3.Connection | None, facts: Mapping[str, tuple[Status, str]]) -> None:
    """Keep facts, but not about files that changed just now: they may change again without a sign."""
    settled = (time.time() - _SETTLED) * 1e9
    rows = [(path, repr(tuple(status)), fact) for path, (status, fact) in facts.items() if status.changed < settled]
    if database is None or not rows:
        return
    try:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)
        database.execute("COMMIT")
    except (sqlite3.Error, UnicodeError):
        if database.in_transaction:
            database.execute("ROLLBACK")
