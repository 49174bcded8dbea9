"""Every example as a user starts it, in both precisions that a CPU has: it ends well and warns of nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = ["--dataset", "colour_shape_tint", "--recipes", "coop_sam", "--seeds", "1", "--shots", "1", "--max_steps", "1"]
LONG_TAIL = ["--max_per_class", "2", "--imbalance_factor", "2", "--recipes", "vpt_sam", "--seeds", "1"]
LONG_TAIL += ["--max_steps", "1", "--eval_split", "validation"]
ARGUMENTS = {
    "run_base2novel": DEMO,
    "run_long_tail": LONG_TAIL,
    "study_overfitting": DEMO,
    "plain_accelerate_loop": ["1"],
}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("script", ARGUMENTS)
def test_an_example_ends_well_in_every_precision(script, precision, tmp_path):
    """What was measured under autocast has to be measured so again, or every run ends in an error."""
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--mixed_precision", precision]
    launcher += ["--num_processes", "1", "--num_machines", "1", "--dynamo_backend", "no"]
    output_dir = [] if script == "plain_accelerate_loop" else ["--output_dir", str(tmp_path)]
    finished = subprocess.run(
        [sys.executable, *launcher, str(EXAMPLES / f"{script}.py"), *ARGUMENTS[script], *output_dir],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_THREAD_LIMIT": "1"},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stderr == ""
    assert ("accuracy" if script == "plain_accelerate_loop" else "Every adapter was loaded back") in finished.stdout
