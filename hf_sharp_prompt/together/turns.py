"""Functions that take turns: each in a thread of its own, of which only one runs at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar

import torch

from ..compat.accelerate import SharedState
from ..random_state import RandomState, accelerators


T = TypeVar("T")


@dataclass(frozen=True)
class ProcessState:
    """What a training loop keeps in the process rather than in its objects: random generators, Accelerate's state."""

    random: RandomState
    accelerate: SharedState

    @classmethod
    def capture(cls) -> ProcessState:
        """Return the state as it is now."""
        return cls(RandomState.capture(accelerators()), SharedState.capture())

    def restore(self) -> None:
        """Set the state back."""
        self.random.restore()
        self.accelerate.restore()


class Turns(Generic[T]):
    """A function that runs only while `go_on` waits for it, until it calls `pause` or ends.

    Whoever calls `go_on` and the function never run at the same time, so that neither has to protect anything from the
    other. Whatever the function leaves in the process is put back before it goes on.

    A generator would do the same; but the function pauses deep within calls of other libraries.

    Args:
        function: The function.
        name: The name of its thread.
        state: The state of the process that the function begins with.

    Attributes:
        is_over: True if the function has ended.
        result: What it returned.
        error: What it raised.
    """

    def __init__(self, function: Callable[[], T], name: str, state: ProcessState) -> None:
        self._function, self._state = function, state
        self._turn = Condition()
        self._is_running = self._is_stopped = self.is_over = False
        self.result: T
        self.error: BaseException | None = None
        self._device = torch.accelerator.current_device_index() if torch.accelerator.is_available() else None
        # After a second Ctrl-C nobody waits for it.
        self._thread = Thread(target=copy_context().run, args=(self._run,), name=name, daemon=True)

    def go_on(self) -> None:
        """Let the function run until it pauses or ends."""
        self._state.restore()
        with self._turn:
            self._is_running = True
            if self._thread.ident is None:
                self._thread.start()
            self._turn.notify_all()
        self._wait()
        self._state = ProcessState.capture()

    def pause(self) -> None:
        """Let the caller of `go_on` run; called by the function.

        Raises:
            KeyboardInterrupt: The function is to end.
        """
        self.check()
        with self._turn:
            self._is_running = False
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._is_running)
        self.check()

    def check(self) -> None:
        """Raise if the function is to end; called by the function.

        Raises:
            KeyboardInterrupt: It is.
        """
        if self._is_stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End the function with a KeyboardInterrupt, where it pauses or checks next, and wait for its end."""
        self._is_stopped = True
        if self._is_running:
            self._wait()
        if self._thread.ident is not None and not self.is_over:
            self.go_on()

    def _wait(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: not self._is_running)

    def _run(self) -> None:
        try:
            if self._device is not None:  # A thread begins with the first one.
                torch.accelerator.set_device_index(self._device)
            self.result = self._function()
        except BaseException as error:  # Whoever called `go_on` decides what it means.
            self.error = error
        finally:
            with self._turn:
                self._is_running, self.is_over = False, True
                self._turn.notify_all()
