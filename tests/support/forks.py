"""Processes forked from the test's, which has imported what another process needs seconds to import."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState
from torch.multiprocessing import start_processes


def start_fork(function: Callable[..., object], *args: object) -> BaseProcess:
    """Start a process that calls the function; it can be killed and waited for like any other.

    A process that has used CUDA cannot be forked, so that the tests of `benchmarks/gpu.py` start a new one.
    """
    method = "spawn" if torch.cuda.is_initialized() else "fork"
    process = multiprocessing.get_context(method).Process(target=_call, args=(function, args, {}))
    process.start()
    return process


def run_fork(function: Callable[..., object], *args: object) -> int:
    """Call the function in a fork; return its exit code, negative for the signal that ended it."""
    process = start_fork(function, *args)
    process.join()
    return process.exitcode


def run_two_forks(function: Callable[..., object], *args: object, output_dir: Path) -> str:
    """Call the function in two processes that meet each other as torchrun's do, on CPUs.

    Args:
        function: Called with `args` in both.
        output_dir: The folder where what each process prints is kept.

    Returns:
        What both have printed, on standard output and on standard error.

    Raises:
        ProcessRaisedException: One of the two failed; the message has its traceback.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    printed = [output_dir / f"printed by process {rank}.txt" for rank in range(2)]
    context = start_processes(_call_as_rank, (port, printed, function, args), 2, join=False, start_method="fork")
    while not context.join():
        pass
    return "".join(file.read_text() for file in printed)


def _call_as_rank(rank: int, port: int, printed: list[Path], function: Callable[..., object], args: tuple) -> None:
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    environment |= {"RANK": rank, "LOCAL_RANK": rank}
    with printed[rank].open("w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        _call(function, args, environment)


def _call(function: Callable[..., object], args: tuple, environment: dict[str, object]) -> None:
    """Forget what this process has inherited about processes and threads, and call the function."""
    os.environ |= {name: str(value) for name, value in environment.items()}
    os.environ.pop("ACCELERATE_USE_CPU", None)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    torch.set_num_threads(1)  # OpenMP's other threads have stayed behind
    function(*args)
