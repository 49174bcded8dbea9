"""Writing results and complaints where no progress bar is in the way, and from one process of several."""

from __future__ import annotations

import os
from typing import TextIO

from .. import progress


def write(text: str, file: TextIO) -> None:
    """Write text to standard output or standard error."""
    if os.environ.get("RANK", "0") == "0":
        if file.isatty():
            progress.hide()
        file.write(text)
