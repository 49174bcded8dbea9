"""What commands say besides how far they are."""

import json


def without_progress(said: str) -> str:
    """Standard error without the lines of progress."""
    return "".join(line for line in said.splitlines(keepends=True) if not line.startswith('{"stage": '))


def progress_in(said: str) -> list[dict]:
    """The lines of progress, read as a program reads them."""
    return [json.loads(line) for line in said.splitlines() if line.startswith('{"stage": ')]
