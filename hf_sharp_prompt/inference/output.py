"""Writing results and complaints where no progress bar is in the way, and from one process of several."""

from __future__ import annotations

import os
from typing import TextIO

from .. import progress


def write(text: str, file: TextIO) -> None:
    """Write text to standard output or standard error."""
    if is_first_process():
        if file.isatty():
            progress.hide()
        file.write(text)


def is_first_process() -> bool:
    """Whether this process is the one of several that writes.

    `torchrun` names its processes by the environment even where accelerate does not let them work together, as on CPUs
    without `accelerate launch --cpu`.
    """
    return os.environ.get("RANK", "0") == "0"
