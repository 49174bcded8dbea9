"""Writing a file of features batch by batch, whole or not at all; what an interrupted run has left is continued.

All features together may not fit into memory, where `safetensors.torch.save_file` would need them. The file grows
under another name, and a note beside it says every few seconds how many images are safe, and their checksum.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
import xxhash

from ...files import written_whole
from .file import Contents, header_of


SECONDS_BETWEEN_NOTES = 10.0

_NO_CHECKSUM = xxhash.xxh3_128().hexdigest()
"""Takes the place of the checksum until all is written."""


@dataclass(frozen=True)
class _Note:
    """How much of an unfinished file is safe.

    Args:
        images: The images whose features are.
        width: The shape of one view's features.
        checksum: That of the labels and these features.
    """

    images: int
    width: Sequence[int]
    checksum: str

    @classmethod
    def read(cls, path: Path) -> _Note:
        return cls(**json.loads(_note(path).read_text()))

    def write(self, path: Path) -> None:
        with written_whole(_note(path)) as fresh:
            fresh.write_text(json.dumps(asdict(self)))


def write(path: Path, contents: Contents, batches: Iterator[torch.Tensor], kept: int = 0) -> None:
    """Write features that come in batches of images × views × …, whole or not at all.

    The next call may continue an interrupted one; [`count_kept`] says from where. There must be one writer at a time.

    Args:
        path: The file.
        contents: What it will hold.
        batches: The features of the images from `kept` on.
        kept: How many images' features of an interrupted call are used, at most what `count_kept` says.
    """
    unfinished = _unfinished(path)
    try:
        with unfinished.open("r+b" if kept else "wb") as file:
            if kept:
                width = _Note.read(path).width
                file.seek(len(header_of(contents, width, _NO_CHECKSUM)))
                digest = _digest(file, contents, width, kept)
                file.truncate()
            else:
                first = next(batches)
                batches, width, digest = chain([first], batches), first.shape[2:], xxhash.xxh3_128()
                file.write(header_of(contents, width, _NO_CHECKSUM))
                _append(file, contents.labels, digest)
            noted = time.monotonic()
            for batch in batches:
                _append(file, batch, digest)
                kept += len(batch)
                if time.monotonic() - noted >= SECONDS_BETWEEN_NOTES:
                    _make_safe(file)
                    _Note(kept, list(width), digest.hexdigest()).write(path)
                    noted = time.monotonic()
            file.seek(0)  # the true checksum is as long as the placeholder
            file.write(header_of(contents, width, digest.hexdigest()))
            _make_safe(file)
        os.replace(unfinished, path)
        _note(path).unlink(missing_ok=True)
    finally:
        if not _note(path).exists():  # Nothing in it would be used.
            unfinished.unlink(missing_ok=True)


def count_kept(path: Path, contents: Contents) -> int:
    """Return how many images' features of these very contents an interrupted `write` has left, whole."""
    try:
        note = _Note.read(path)
        with _unfinished(path).open("rb") as file:
            header = header_of(contents, note.width, _NO_CHECKSUM)
            if file.read(len(header)) != header:
                return 0
            whole = _digest(file, contents, note.width, note.images).hexdigest() == note.checksum
    except (OSError, ValueError, TypeError):
        return 0
    return note.images if whole else 0


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.note")


def _append(file: BinaryIO, tensor: torch.Tensor, digest: xxhash.xxh3_128) -> None:
    content = tensor.contiguous().numpy().data
    digest.update(content)
    file.write(content)


def _digest(file: BinaryIO, contents: Contents, width: Sequence[int], images: int) -> xxhash.xxh3_128:
    """Read on in a file, and hash all labels and the features of these images.

    Raises:
        ValueError: The file is shorter.
    """
    digest = xxhash.xxh3_128()
    size = contents.labels.nbytes + images * contents.views * math.prod(width) * contents.dtype.itemsize
    while size:
        if not (block := file.read(min(size, 2**22))):
            raise ValueError("The file is shorter than its note says.")
        digest.update(block)
        size -= len(block)
    return digest


def _make_safe(file: BinaryIO) -> None:
    """Let what is written outlast the machine."""
    file.flush()
    os.fsync(file.fileno())
