"""The command `sharp-prompt study`: the papers' phenomena on the embedded demo, as docs/study.md reports them.

    sharp-prompt study                       # the whole study
    sharp-prompt study --parts headline      # the headline table alone
    sharp-prompt study --parts report        # tables and figures of what has been run

The plan, with the rules by which settings are chosen and what they chose, is `hf_sharp_prompt/study/plan.yaml`. Runs are
processes of one thread each, side by side. Interrupted, the same command continues where it stopped; parts that are
finished are not run again. Tables and figures are written after every part.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..extras import check_installed
from . import commands, report, side_by_side
from .plan import Plan, read_plan


EXTRAS = {"study": ["matplotlib", "scipy"]}
OUTPUT_DIR = "runs/study"
SEEDS = range(1, 4)  # the seeds of all methods


def headline(plan: Plan, output_dir: Path) -> list[commands.Command]:
    """The methods of the headline with the seeds of all methods, on both suites."""
    names = [name for name, method in plan.methods.items() if method.seeds > len(SEEDS)]
    return [
        each
        for suite in ("familiar", "unfamiliar")
        for each in commands.method_commands(plan, output_dir, suite, names, SEEDS, by_epoch=True)
    ]


def seeds(plan: Plan, output_dir: Path) -> list[commands.Command]:
    """The further seeds of the methods that have them."""
    further = {name: method.seeds for name, method in plan.methods.items() if method.seeds > len(SEEDS)}
    return [
        each
        for suite in ("familiar", "unfamiliar")
        for each in commands.method_commands(
            plan, output_dir, suite, further, range(len(SEEDS) + 1, max(further.values()) + 1)
        )
    ]


def contexts(plan: Plan, output_dir: Path) -> list[commands.Command]:
    """All other methods that learn CoOp's context."""
    names = [name for name, method in plan.methods.items() if method.learns_a_context and method.seeds == len(SEEDS)]
    return [
        each
        for suite in ("familiar", "unfamiliar")
        for each in commands.method_commands(plan, output_dir, suite, names, SEEDS)
    ]


def designs(plan: Plan, output_dir: Path) -> list[commands.Command]:
    """The designs other than CoOp's context."""
    names = [name for name, method in plan.methods.items() if not method.learns_a_context]
    return [
        each
        for suite in ("familiar", "unfamiliar")
        for each in commands.method_commands(plan, output_dir, suite, names, SEEDS)
    ]


PARTS: dict[str, Callable[[Plan, Path], list[commands.Command]]] = {
    "setting": commands.setting_commands,
    "hyperparameters": lambda plan, output_dir: commands.hyperparameter_commands(plan, output_dir, plan.methods),
    "headline": headline,
    "seeds": seeds,
    "contexts": contexts,
    "trajectories": commands.trajectory_commands,
    "explanations": commands.explanation_commands,
    "long_tail": lambda plan, output_dir: commands.long_tail_commands(plan, output_dir, plan.long_tail.methods),
    "designs": designs,
}
"""The parts by name, in the order in which they are run."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    ...
