"""Programs run by two real processes, as on two GPUs."""

import os
import subprocess
import sys


def run_in_two_processes(*command: object, timeout: int = 300, **environment: str) -> str:
    """Start a script, with arguments, under torchrun with gloo, and return what it prints.

    `environment` is set besides, and on CPUs by default `ACCELERATE_USE_CPU`.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    defaults = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run(
        [*launcher, *map(str, command)],
        env=os.environ | defaults | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert finished.returncode == 0, finished.stderr[-10000:]  # torchrun says much about a failure behind what failed
    return finished.stdout
