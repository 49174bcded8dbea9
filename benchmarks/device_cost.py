"""What a call costs on a device, and the tables that say so within a limit of time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, ClassVar

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


LAUNCHES = {"cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"}


class OutOfTimeError(RuntimeError):
    """The time is over."""


class Time:
    """How much of a limit is left.

    Args:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.started = seconds, perf_counter()

    @property
    def spent(self) -> float:
        return perf_counter() - self.started

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    @contextmanager
    def limit(self, at_most: float | None) -> Iterator[None]:
        """End the block when the time is over, or it alone has taken `at_most` seconds.

        Raises:
            OutOfTimeError: It is ended, or there was no time for it to begin.
        """
        seconds = self.left if at_most is None else min(self.left, at_most)
        if seconds <= 0:
            raise OutOfTimeError("skipped: no time was left")

        def stop(*_: Any) -> None:
            raise OutOfTimeError(f"stopped after {seconds:.0f} s")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Table:
    """A Markdown table whose rows fail alone.

    Attributes:
        failed: True if a row failed; one for which there was no time did not.
    """

    def __init__(self, time: Time) -> None:
        self.time, self.failed = time, False

    def head(self, *names: str) -> None:
        print("|", " | ".join(names), "|\n|" + "---|" * len(names), flush=True)
        self.columns = len(names)

    def row(self, name: Sequence[object], measure: Callable[[], Sequence[str]], at_most: float | None = 60) -> None:
        """Print a row.

        Args:
            name: Its first cells.
            measure: Returns the others.
            at_most: The seconds that it may take.
        """
        cells: list[str] = []

        def fill() -> None:
            with self.time.limit(at_most):
                cells.extend(measure())

        reason = self._reason_of_failure(fill)
        cells = cells if reason is None else [reason]
        cells += [""] * (self.columns - len(name) - len(cells))
        print("|", " | ".join([*map(str, name), *cells]), "|", flush=True)

    def attempt(self, make_rows: Callable[[], None]) -> None:
        """Print the rows that a function makes, and why it fails if it does so between them."""
        if reason := self._reason_of_failure(make_rows):
            print(f"\n{reason}", flush=True)

    def _reason_of_failure(self, function: Callable[[], None]) -> str | None:
        try:
            function()
        except OutOfTimeError as reason:
            return f"*{reason}*"
        except Exception as error:
            self.failed = True
            return f"**{type(error).__name__}: {' '.join(str(error).split())}**".replace("|", "\\|")
        return None


@dataclass
class Cost:
    """What one call costs.

    Args:
        milliseconds: Wall-clock time, the median of several calls.
        operations: Floating-point operations of the matrix products.
        device_milliseconds: Time in kernels; None on a CPU, like the others.
        launches: Kernels and CUDA graphs launched.
        gib: The peak of memory above what was held before.
    """

    HEADINGS: ClassVar = ("ms", "device ms", "device share", "launches", "share of matrix peak", "peak GiB")

    milliseconds: float
    operations: int
    device_milliseconds: float | None = None
    launches: int | None = None
    gib: float | None = None

    def cells(self, peak: float) -> list[str]:
        """Return the cells below the headings, with the peak's operations per second."""
        wall, device = self.milliseconds, self.device_milliseconds
        return [
            f"{wall:.2f}",
            "" if device is None else f"{device:.2f}",
            "" if device is None else f"{device / wall:.0%}",
            "" if self.launches is None else str(self.launches),
            f"{self.operations / (wall / 1e3) / peak:.0%}" if self.operations else "",
            "" if self.gib is None else f"{self.gib:.3f}",
        ]


def measure_cost(
    function: Callable[[], object], counted: Callable[[], object], device: torch.device, repeats: int
) -> Cost:
    """Return the cost of a call, after three that are not measured, in which a CUDA graph is made.

    Args:
        function: What is measured.
        counted: The same, not compiled, of which operations are counted.
        device: Where it computes.
        repeats: How many calls the median is of.
    """
    with FlopCounterMode(display=False) as counter:
        counted()
    for _ in range(3 if device.type == "cuda" else 1):
        function()
    if device.type == "cpu":
        return Cost(_milliseconds(function, repeats), counter.get_total_flops())
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    milliseconds = _milliseconds(function, repeats, torch.cuda.synchronize)
    gib = (torch.cuda.max_memory_allocated() - held) / 2**30
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        function()
        torch.cuda.synchronize()
    events = profiled.key_averages()
    launches = sum(event.count for event in events if event.key in LAUNCHES)
    # An operation on the CPU is credited with the time of its kernels, which are separate events.
    kernels = [each for each in events if each.device_type != DeviceType.CPU and not each.is_user_annotation]
    device_milliseconds = sum(each.self_device_time_total for each in kernels) / 1e3
    return Cost(milliseconds, counter.get_total_flops(), device_milliseconds, launches, gib)


def measure_product(rows: int, dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations per second of a product of two square matrices, the fastest of several."""
    a, b = torch.randn(2, rows, rows, device=device, dtype=dtype)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds = min(_milliseconds(lambda: a @ b, 3, wait) for _ in range(3)) / 1e3
    return 2 * rows**3 / seconds


def _milliseconds(function: Callable[[], object], repeats: int, wait: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(repeats):
        wait()
        started = perf_counter()
        function()
        wait()
        times.append(perf_counter() - started)
    return 1e3 * median(times)
