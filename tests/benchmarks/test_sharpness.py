"""The benchmark of the rules runs, and has a row for each member of the family."""

import re
from pathlib import Path

from support.scripts import run_script

from hf_sharp_prompt.objectives import sharpness_aware_names
from hf_sharp_prompt.sharpness import names


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sharpness.py"


def test_it_prints_the_table_of_the_readme(capsys):
    """Otherwise its figures cannot be measured again, on another machine or with a new rule."""
    assert run_script(SCRIPT, "--small", "--rounds", "1", "--large_steps", "1") == 0
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", capsys.readouterr().out, re.MULTILINE))
    assert rows.keys() == {*names(), *sharpness_aware_names()}
    evaluations = {"none": "1", "sam": "2", "crsam": "3", "looksam": "1.2", "saf": "1", "mesa": "1"}
    assert rows | evaluations == rows
