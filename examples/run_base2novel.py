"""Base-to-novel generalisation: learn prompts from a few images of half of the classes, measure on both halves.

Without arguments everything is on board: zero-shot CLIP, CoOp, CoOp + SAM and GCSCoOp on a task of the embedded demo,
three seeds each. With a checkpoint and a data set of yours it is the papers' experiment:

    accelerate launch examples/run_base2novel.py
    accelerate launch examples/run_base2novel.py --model openai/clip-vit-base-patch16 --dataset my/folder/of/images

A recipe (examples/recipes/*.yaml) gives a method's prompt and training arguments; an argument on the command line
overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import PartialState

from hf_sharp_prompt.experiments.base_to_novel import (
    average,
    draw_by_epoch,
    load_experiments,
    make_table,
    parse_arguments,
    run_methods,
)
from hf_sharp_prompt.experiments.command_line import make_console, prepare_process, use_all_cores
from hf_sharp_prompt.experiments.failures import run_script
from hf_sharp_prompt.experiments.publishing import Publication
from hf_sharp_prompt.experiments.results import Results
from hf_sharp_prompt.experiments.runs import end_of


RECIPES = Path(__file__).parent / "recipes"


def main() -> int:
    prepare_process()
    args, methods = parse_arguments(sys.argv[1:], RECIPES, __doc__)
    use_all_cores()
    console = make_console()
    waiting = load_experiments(args, methods)
    results: dict[str, Results] = {}
    publications: list[Publication] = []
    while waiting:  # an experiment's images are let go when it is done
        experiment = waiting.pop(0)
        results[experiment.dataset], pushed = run_methods(experiment, methods, console)
        publications += pushed
        console.print(make_table(experiment.dataset, results[experiment.dataset]))
        if PartialState().is_main_process:
            draw_by_epoch(experiment, results[experiment.dataset])
        console.print(
            f"Adapters are in {experiment.directory}/METHOD/seedN, summary.json and accuracy_by_epoch.png beside "
            "them.\n",
            soft_wrap=True,
        )
    if len(results) > 1:
        console.print(make_table(f"mean of {len(results)} data sets", average(list(results.values()))))
    return end_of(list(results.values()), publications, console)


if __name__ == "__main__":
    run_script(main)
