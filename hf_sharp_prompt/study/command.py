"""The papers' phenomena on the embedded demo: do prompts overfit, which methods help, and what explains it?

    sharp-prompt study                       # the whole study
    sharp-prompt study --parts headline      # the headline methods with one seed, in a quarter of an hour
    sharp-prompt study --parts report        # tables and figures of what has been run

docs/study.md reports it. The plan is hf_sharp_prompt/study/plan.yaml: the candidates, the rules by which settings are
chosen, and what was chosen. Runs are processes of one thread, side by side. Interrupted, the same command continues
where it stopped. Tables and figures are written after every part.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..extras import check_installed
from . import commands
from .choices import with_choices
from .commands import Command
from .plan import SUITES, Plan, read_plan
from .report import write_report
from .side_by_side import run


EXTRAS = {"study": ["matplotlib", "scipy"]}
OUTPUT_DIR = Path("runs/study")
COMMON_SEEDS = range(1, 4)  # the seeds that all methods have


def names_of_headline(plan: Plan) -> list[str]:
    """The methods of the headline: those with more seeds than the others."""
    return [name for name, method in plan.methods.items() if method.seeds > len(COMMON_SEEDS)]


def headline(plan: Plan, output_dir: Path) -> list[Command]:
    """The methods of the headline with one seed."""
    return on_both_suites(plan, output_dir, names_of_headline(plan), COMMON_SEEDS[:1])


def seeds(plan: Plan, output_dir: Path) -> list[Command]:
    """All seeds of the methods of the headline; those that all methods have are measured on the way."""
    names = names_of_headline(plan)
    further = range(COMMON_SEEDS.stop, plan.methods[names[0]].seeds + 1)
    return [
        *commands.method_commands(plan, output_dir, "familiar", names, COMMON_SEEDS, curves=True),
        *commands.method_commands(plan, output_dir, "unfamiliar", names, COMMON_SEEDS),
        *on_both_suites(plan, output_dir, names, further),
    ]


def contexts(plan: Plan, output_dir: Path) -> list[Command]:
    """All other methods that learn CoOp's context."""
    headline_names = names_of_headline(plan)
    names = [name for name, each in plan.methods.items() if each.learns_a_context and name not in headline_names]
    return on_both_suites(plan, output_dir, names, COMMON_SEEDS)


def designs(plan: Plan, output_dir: Path) -> list[Command]:
    """The designs other than CoOp's context."""
    names = [name for name, method in plan.methods.items() if not method.learns_a_context]
    return on_both_suites(plan, output_dir, names, COMMON_SEEDS)


def explanations(plan: Plan, output_dir: Path) -> list[Command]:
    """What may explain the accuracy of the methods that learn CoOp's context; and landscapes of the first task."""
    measured = [
        command for suite in SUITES for command in commands.explanation_commands(plan, output_dir, suite, COMMON_SEEDS)
    ]
    return [*measured, commands.landscape_command(plan, output_dir, SUITES["familiar"][0])]


def on_both_suites(plan: Plan, output_dir: Path, names: Sequence[str], seeds: Sequence[int]) -> list[Command]:
    """Methods on both suites, measured at the end."""
    return [command for suite in SUITES for command in commands.method_commands(plan, output_dir, suite, names, seeds)]


PARTS: dict[str, Callable[[Plan, Path], list[Command]]] = {
    "setting": commands.setting_commands,
    "hyperparameters": commands.hyperparameter_commands,
    "headline": headline,
    "seeds": seeds,
    "trajectories": commands.trajectory_commands,
    "contexts": contexts,
    "explanations": explanations,
    "long_tail": commands.long_tail_commands,
    "designs": designs,
    "report": lambda plan, output_dir: [],
}
"""What each part runs, in the order in which parts are run."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(list(argv))
    check_installed("sharp-prompt study", EXTRAS)
    plan, failed = with_choices(read_plan(), args.output_dir), 0
    for part in args.parts:
        waiting = PARTS[part](plan, args.output_dir)
        for command, code in run(waiting, args.processes, args.output_dir / "log"):
            print(f"{part}: {command.name} {'is done' if code == 0 else f'failed, exit code {code}'}", flush=True)
            failed += code != 0
        plan = with_choices(plan, args.output_dir)  # The part may have run candidates.
        path = write_report(plan, args.output_dir)
        print(f"{part} is finished; {path} has all tables, and figures are beside it.", flush=True)
    if failed:
        print(f"Failed commands: {failed}; {args.output_dir / 'log'} says why. The same command runs them again.")
    return 1 if failed else 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    summary, _, text = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=f"{summary}\n\n{text}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"What to run, of: {', '.join(PARTS)}. Default: all, in this order.",
    )
    parser.add_argument(
        "--processes",
        type=at_least_one,
        default=os.cpu_count() or 1,
        help="Processes side by side. Default: one for each core.",
    )
    parser.add_argument(
        "--output_dir", type=Path, default=OUTPUT_DIR, help=f"Where everything goes. Default: {OUTPUT_DIR}."
    )
    return parser


def at_least_one(word: str) -> int:
    """A number of processes from the command line."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"it must be a whole number of at least 1, got {word!r}")
    return int(word)
