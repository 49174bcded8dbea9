"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(target: str | Path) -> Iterator[Path]:
    """Write a file or a folder under another name, and rename it when the block ends.

    After an error or a kill, `target` is as it was before. A file replaces a file, and a folder's files replace those
    of the same names in a folder. There must be one writer at a time; the next one removes what a killed one left.

    Args:
        target: The path of the file or folder; missing parent folders are made.

    Yields:
        The path to write to; nothing is there yet.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{target.name}.unfinished"
    _remove(fresh)
    try:
        yield fresh
        if fresh.is_dir():
            _replace_files(fresh, target)
        else:
            os.replace(fresh, target)
    finally:
        _remove(fresh)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace_files(source: Path, target: Path) -> None:
    """Move a folder's files into another folder; each old file stays whole until the new one replaces it."""
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        destination = target / path.relative_to(source)
        destination.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, destination)
