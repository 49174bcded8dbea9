"""The example for people with a loop and a model of their own, as they would type it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "plain_accelerate_loop.py"


def test_it_is_short():
    """It is there to show how little a loop needs."""
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("processes", [1, 2])
def test_it_trains_in_one_process_and_in_several(processes):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
    finished = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), "2"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    lines = re.findall(r"^(\w+): accuracy ([\d.]+)% \((\d) processes\)$", finished.stdout, re.MULTILINE)
    assert [(rule, world_size) for rule, _, world_size in lines] == [("none", str(processes)), ("sam", str(processes))]
    assert all(0 <= float(accuracy) <= 100 for _, accuracy, _ in lines)
