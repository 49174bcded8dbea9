"""Which image files a command line means."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image


def find_image_files(sources: Sequence[str]) -> list[str]:
    """List image files.

    Args:
        sources: Files, which are taken whatever their names end in; folders, whose image files are taken, those in
            folders below included; or patterns such as `photos/**/*.jpg`.

    Returns:
        Paths in the order of the sources, each one once; within a folder or a pattern, sorted. Hidden files and
        folders are passed over.

    Raises:
        ValueError: A source that is not there, or no image at all.
    """
    found = dict.fromkeys(path for source in sources for path in _files_of(os.path.expanduser(source)))
    if not found:
        raise ValueError(
            f"There are no images in {', '.join(sources)}; give files, folders that have some, or a pattern such as "
            "'photos/*.jpg'."
        )
    return list(found)


def _files_of(source: str) -> Iterator[str]:
    if os.path.isdir(source):
        yield from _files_in(source)
    elif os.path.exists(source):
        yield source
    elif glob.has_magic(source):
        yield from (path for path in sorted(glob.iglob(source, recursive=True)) if os.path.isfile(path))
    else:
        raise ValueError(f"There is no file or folder {source}; check the path, or quote a pattern.")


def _files_in(folder: str) -> Iterator[str]:
    suffixes = Image.registered_extensions()
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                yield os.path.join(directory, name)
