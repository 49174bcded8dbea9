"""Which of several machines' processes share a directory."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from accelerate import PartialState
from accelerate.utils import gather_object


def is_first_to_see(directory: Path) -> bool:
    """Tell whether this process writes a directory's files for all that see the same directory; all must call it.

    Machines may share the directory, or each has its own under the same name. Each machine's first process puts a mark
    into it, and the first of those whose marks are seen together is the one.

    Args:
        directory: The directory, which is there on every machine.
    """
    state = PartialState()
    mark = directory / f".{uuid4().hex}.seen" if state.is_local_main_process else None
    if sum(gather_object([mark is not None])) == 1:  # one machine
        return state.is_main_process
    if mark is not None:
        mark.touch()
    marks = gather_object([None if mark is None else mark.name])
    seen = [process for process, name in enumerate(marks) if name is not None and (directory / name).exists()]
    state.wait_for_everyone()
    if mark is None:
        return False
    mark.unlink()
    return min(seen) == state.process_index
