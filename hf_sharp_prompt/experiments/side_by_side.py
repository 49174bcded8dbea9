"""Calls side by side, each in a process of one thread that is forked from this one.

A fork shares what this process has loaded, such as models, features and imports, and costs no second of its own. It
knows nothing of the others. What it reports and prints comes out of this process, with its name.

Libraries must not compute with several threads in a fork: those that this process had are not in it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

from .. import progress
from ..printable import printable


T = TypeVar("T")

SECONDS_BETWEEN_REPORTS = 0.1
"""A fork reports its progress at most so often."""


class KilledError(Exception):
    """A process ended without a result, for instance because the memory was used up."""

    def __init__(self, exit_code: int | None) -> None:
        cause = f"exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            cause = f"killed by {signal.Signals(-exit_code).name}"
        super().__init__(f"The process ended without a result ({cause}); if memory is short, do fewer runs at once.")


def can_fork() -> bool:
    """Whether this process may be forked: its threads are on a CPU, and it has met no other process."""
    return (
        sys.platform == "linux"  # On macOS, system libraries stop a fork that uses them.
        and not torch.cuda.is_initialized()
        and not (torch.distributed.is_available() and torch.distributed.is_initialized())
    )


def side_by_side(calls: Mapping[str, Callable[[], T]], processes: int) -> Iterator[tuple[str, T | KilledError]]:
    """Make calls in forked processes of one thread each, several at a time.

    The processes end with the iterator: also when it is closed early, by Ctrl-C for instance.

    Args:
        calls: The calls by name, in the order in which they begin. What they return is pickled.
        processes: How many run at a time.

    Yields:
        Each call's name and what it returned, as it ends.
    """
    waiting, running = list(calls.items()), list[Fork[T]]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(Fork(*waiting.pop(0)))
            ready = wait([source for fork in running for source in fork.sources])
            for fork in list(running):
                fork.read(ready)
                if fork.has_ended:
                    running.remove(fork)
                    yield fork.name, fork.close()
    finally:
        for fork in running:
            fork.process.terminate()
        for fork in running:
            fork.close()


class Fork(Generic[T]):
    """A process that makes one call, seen from the process that started it.

    Args:
        name: What precedes its lines, and what its progress is of.
        call: The call.

    Attributes:
        sources: Where it can be read from.
    """

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self.name = name
        self._result: list[T] = []
        self._line = b""
        progress.hide()
        sys.stdout.flush()
        sys.stderr.flush()
        self._messages, theirs = multiprocessing.Pipe(duplex=False)
        self._output, output = os.pipe()
        self.process = multiprocessing.get_context("fork").Process(target=answer, args=(call, theirs, output))
        self.process.start()
        theirs.close()
        os.close(output)
        self.sources: list[Connection | int] = [self._messages, self._output]

    @property
    def has_ended(self) -> bool:
        return self._messages not in self.sources

    def read(self, ready: list[Any]) -> None:
        """Read what has come, if these sources are ready."""
        if self._output in ready:
            self._read_output()
        if self._messages in ready:
            try:
                kind, *content = self._messages.recv()
            except EOFError:
                self.sources.remove(self._messages)
                return
            if kind == "result":
                self._result = content
            else:
                stage, done, total = content
                progress.report(stage, done, total, self.name)

    def _read_output(self) -> None:
        block = os.read(self._output, 2**16)
        if not block:
            self.sources.remove(self._output)
        *lines, self._line = (self._line + block).split(b"\n")
        for line in lines:
            self._print(line)

    def _print(self, line: bytes) -> None:
        progress.hide()
        print(f"{self.name}: {printable(line.decode(errors='replace'))}", file=sys.stderr, flush=True)

    def close(self) -> T | KilledError:
        """Wait for the end, print the last lines, and return what the call returned."""
        self.process.join()
        progress.end(self.name)
        while self._output in self.sources and wait([self._output], timeout=0):
            self._read_output()
        if self._line:
            self._print(self._line)
        self._messages.close()
        os.close(self._output)
        return self._result[0] if self._result else KilledError(self.process.exitcode)


def answer(call: Callable[[], T], messages: Connection, output: int) -> None:
    """Make the call in a fork, and send what it returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others.
    sys.stdout.flush()
    for file in (1, 2):
        os.dup2(output, file)
    sys.stdout = sys.stderr = open(output, "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    torch.set_num_threads(1)
    with progress.shown_by(Relay(messages)):
        messages.send(("result", call()))


class Relay:
    """Shows progress in another process.

    Args:
        messages: Where that process reads.
    """

    def __init__(self, messages: Connection) -> None:
        self._messages = messages
        self._last = float("-inf")

    def show(self, stage: str, done: int | None, total: int | None, of: str | None = None) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_REPORTS:
            return
        self._last = now
        try:
            self._messages.send(("progress", stage, done, total))
        except BrokenPipeError:
            os._exit(1)  # The other process was killed, and nobody waits for the result.

    def end(self, of: str | None) -> None:
        """Leave it to the other process, which sees that this one ends."""

    def hide(self) -> None:
        """Leave what is shown to the other process."""
