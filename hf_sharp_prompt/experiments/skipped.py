"""The list of the images that a command leaves out because they cannot be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..data import SkippedImage
from ..files import written_whole


SKIPPED_NAME = "skipped_images.jsonl"


def write_skipped(path: Path, images: Sequence[SkippedImage]) -> None:
    """Write one JSON object a line: data set, split, row, path and reason. Without images there is no file."""
    if not images:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as unfinished:
        lines = (json.dumps(image._asdict(), ensure_ascii=False) for image in images)
        unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
