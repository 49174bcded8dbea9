"""The benchmark of the rules runs, and has a row for each member of the family."""

import re
import subprocess
import sys
from pathlib import Path

from hf_sharp_prompt.objectives import sharpness_aware_names
from hf_sharp_prompt.sharpness import names


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sharpness.py"


def test_it_prints_the_table_of_the_readme():
    """Otherwise its figures cannot be measured again, on another machine or with a new rule."""
    command = [sys.executable, SCRIPT, "--small", "--rounds", "1", "--large_steps", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr[-3000:]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", finished.stdout, re.MULTILINE))
    assert rows.keys() == {*names(), *sharpness_aware_names()}
    evaluations = {"none": "1", "sam": "2", "crsam": "3", "looksam": "1.2", "saf": "1", "mesa": "1"}
    assert rows | evaluations == rows
