from __future__ import annotations

from pathlib import Path


def read_lines(path: str) -> list[str]:
    """Return the lines of a text file that are not empty."""
    lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]
