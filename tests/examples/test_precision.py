"""Every example in half precision, under `accelerate launch`: it ends well, warns of nothing and uses all cores.

In single precision each has other tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.progress import without_progress


EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = ["--recipes", "coop_sam", "--seeds", "1", "--shots", "1", "--max_steps", "1"]
LONG_TAIL = ["--max_per_class", "4", "--imbalance_factor", "2", "--recipes", "vpt_sam", "--seeds", "1"]
LONG_TAIL += ["--max_steps", "1"]
ARGUMENTS = {
    "run_base2novel": FOLDER,
    "run_long_tail": LONG_TAIL,
    "plain_accelerate_loop": ["1"],
}


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess:
    """All examples in one launch."""
    commands = []
    for script, arguments in ARGUMENTS.items():
        output_dir = (
            [] if script == "plain_accelerate_loop" else ["--output_dir", str(tmp_path_factory.mktemp(script))]
        )
        data = [] if script == "plain_accelerate_loop" else ["--dataset", str(folder)]
        commands.append([str(EXAMPLES / f"{script}.py"), *arguments, *data, *output_dir])
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--mixed_precision", "bf16"]
    launcher += ["--num_processes", "1", "--num_machines", "1", "--dynamo_backend", "no"]
    launcher += ["--num_cpu_threads_per_process", "1"]  # its default without a configuration
    typed = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(
        [sys.executable, *launcher, str(Path(__file__).with_name("one_after_the_other.py")), json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=300,
        env=typed | {"OMP_THREAD_LIMIT": "1"},
    )


def test_a_lone_process_uses_all_cores(finished):
    """accelerate launch sets OMP_NUM_THREADS=1 if nobody else does, and 7 of a laptop's 8 cores would idle."""
    assert f"threads: 1, then {os.cpu_count()}\n" in finished.stdout


@pytest.mark.parametrize("script", ARGUMENTS)
def test_an_example_ends_well_in_half_precision(script, finished):
    """What was measured under autocast has to be measured so again, or every run ends in an error."""
    assert finished.returncode == 0, finished.stderr[-3000:]
    before, ended, _ = finished.stdout.partition(f"{script} ended with 0")
    assert ended, finished.stdout + finished.stderr[-3000:]
    printed = before.split(" ended with 0")[-1]
    assert ("accuracy" if script == "plain_accelerate_loop" else "Every adapter was loaded back") in printed


def test_nothing_is_warned_of(finished):
    """Otherwise users look for a fault where there is none."""
    assert without_progress(finished.stderr) == ""
