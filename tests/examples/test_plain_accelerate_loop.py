"""The example for people with a loop and a model of their own, as they would type it."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "plain_accelerate_loop.py"


def test_it_is_short():
    """It is there to show how little a loop needs."""
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 62


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


@pytest.mark.parametrize("words", [["many"], ["0"], ["-1"], ["1.5"], ["1", "2"], [""]])
def test_a_wrong_number_of_epochs_is_answered_in_one_sentence(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    message = f"Give the number of epochs as one whole number above 0, got {' '.join(words)}.\n"
    assert capsys.readouterr().err == message
