"""What a command is doing, and how far it is: a bar on a terminal, and lines for programs elsewhere.

Code says `report("encoding", done, total)` as often as it likes. Within `shown()`, which every command enters, that is
written to standard error: on a terminal as one bar, which vanishes in the end; elsewhere as lines of JSON such as
`{"stage": "encoding", "done": 512, "total": 2048}`, at most one every few seconds. Elsewhere `report` does nothing.
What several do at the same time is shown side by side: each has a bar, or lines with its name under `of`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TextIO


if TYPE_CHECKING:
    from rich.progress import TaskID


SECONDS_BETWEEN_LINES = 2.0


class Display(Protocol):
    """Shows what is happening."""

    def show(self, stage: str, done: int | None, total: int | None, of: str | None = None) -> None: ...

    def end(self, of: str | None) -> None:
        """Show no more of what has this name."""

    def hide(self) -> None:
        """Clear what is shown until something is reported again, so that other text can be printed."""


_DISPLAY: ContextVar[Display | None] = ContextVar("hf_sharp_prompt_progress", default=None)


@contextmanager
def shown() -> Iterator[None]:
    """Within the block, show what is reported; in one process of several. A block within another changes nothing."""
    if _DISPLAY.get() is not None or os.environ.get("RANK", "0") != "0":
        yield
        return
    with shown_by(Bar() if sys.stderr.isatty() else Lines(sys.stderr)):
        yield


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Within the block, let this display show what is reported."""
    token = _DISPLAY.set(display)
    try:
        yield
    finally:
        display.hide()
        _DISPLAY.reset(token)


@contextmanager
def shown_through(make: Callable[[Display], Display]) -> Iterator[None]:
    """Within the block, show what is reported by another display, made of the one that would show it; if one does."""
    display = _DISPLAY.get()
    if display is None:
        yield
        return
    token = _DISPLAY.set(make(display))
    try:
        yield
    finally:
        _DISPLAY.reset(token)


def report(stage: str, done: int | None = None, total: int | None = None, of: str | None = None) -> None:
    """Say what is happening.

    Args:
        stage: In a word: starting, reading, checking, encoding, training, measuring, mapping, predicting.
        done: How much of it is done: images or steps; None if that is not known.
        total: How much there is to do; None if that is not known.
        of: The name of what does it, where several do something at the same time.
    """
    if (display := _DISPLAY.get()) is not None:
        display.show(stage, done, total, of)


def end(of: str) -> None:
    """Say that what has this name has ended."""
    if (display := _DISPLAY.get()) is not None:
        display.end(of)


def hide() -> None:
    """Clear the bar, so that other text can be printed; the next report shows it again."""
    if (display := _DISPLAY.get()) is not None:
        display.hide()


class Lines:
    """Progress as lines of JSON, of each at most one in [`SECONDS_BETWEEN_LINES`].

    Args:
        file: Where they are written.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self._last: dict[str | None, float] = {}

    def show(self, stage: str, done: int | None, total: int | None, of: str | None = None) -> None:
        now = time.monotonic()
        if now - self._last.get(of, float("-inf")) < SECONDS_BETWEEN_LINES:
            return
        self._last[of] = now
        facts = {"of": of, "stage": stage, "done": done, "total": total}
        line = json.dumps({name: value for name, value in facts.items() if value is not None})
        print(line, file=self.file, flush=True)

    def end(self, of: str | None) -> None:
        """Lines stay."""

    def hide(self) -> None:
        """Lines stay."""


class Bar:
    """Progress as bars on the terminal, each of which shows the current stage alone."""

    def __init__(self) -> None:
        from rich.console import Console  # A tenth of a second that programs without a terminal save.
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
        )
        # Standard output is left alone: what goes there is a command's result.
        self._progress = Progress(
            *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True, redirect_stdout=False
        )
        self._shown: dict[str | None, tuple[str, TaskID]] = {}

    def show(self, stage: str, done: int | None, total: int | None, of: str | None = None) -> None:
        for other in [name for name in self._shown if (name is None) != (of is None)]:
            self.end(other)  # Either several are at work, or this process alone.
        if self._shown.get(of, ("",))[0] != stage:
            self.end(of)
            description = stage if of is None else f"{of}: {stage}"
            self._shown[of] = stage, self._progress.add_task(description, total=total, count="")
        count = "" if done is None else f"{done}" if total is None else f"{done}/{total}"
        self._progress.update(self._shown[of][1], completed=done or 0, total=total, count=count)
        self._progress.start()

    def end(self, of: str | None) -> None:
        if of in self._shown:
            self._progress.remove_task(self._shown.pop(of)[1])

    def hide(self) -> None:
        self._progress.stop()
