"""A training step computes nothing twice, counted by the benchmark whose table the README shows."""

import re
from pathlib import Path

from support.scripts import run_script


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "operations.py"


def test_each_tower_and_coupling_runs_once_per_gradient_evaluation_that_moves_it(capsys):
    """Otherwise a study pays for the same features, vision tokens or texts several times in every step."""
    assert run_script(SCRIPT, "--batch", "2", "--designs", "coop", "vpt", "maple") == 0
    table = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d+) \| (.+) \|$", capsys.readouterr().out, re.MULTILINE)
    counts = {(design, rule): [int(number) for number in rest.split(" | ")] for design, rule, _, rest in table}
    assert counts == {  # passes of the vision and of the text tower, images embedded, couplings, texts read
        ("coop", "none"): [1, 1, 1, 0, 0],
        ("coop", "sam"): [1, 2, 1, 0, 0],
        ("vpt", "none"): [1, 0, 1, 0, 0],
        ("vpt", "sam"): [2, 0, 2, 0, 0],
        ("maple", "none"): [1, 1, 1, 4, 0],
        ("maple", "sam"): [2, 2, 2, 8, 0],
    }
    flops = {(design, rule): int(number) for design, rule, number, _ in table}
    assert flops["coop", "sam"] < 2 * flops["coop", "none"], "the image tower is frozen"
