"""What the example scripts have in common."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from hf_sharp_prompt.experiments import console


ROOT = Path(__file__).parents[2]


def test_a_lone_process_uses_all_cores_under_accelerate_launch(tmp_path, monkeypatch):
    """accelerate launch says OMP_NUM_THREADS=1, and 7 of a laptop's 8 cores would idle."""
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nfrom hf_sharp_prompt.experiments import console\n"
        "before = torch.get_num_threads()\n"
        "console.use_all_cores()\n"
        "print(before, torch.get_num_threads())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    finished = subprocess.run(
        [sys.executable, *launcher, script],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.split() == ["1", str(os.cpu_count())]

    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    before = torch.get_num_threads()
    console.use_all_cores()
    assert torch.get_num_threads() == before, "who starts Python alone has said what is wanted"
