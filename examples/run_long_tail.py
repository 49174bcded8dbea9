r"""Long-tailed recognition: learn prompts in a vision transformer from classes of which most are rare.

Without arguments everything is on board: a tiny ViT and a task whose most frequent class has 100 times the images of
its rarest, three seeds each of VPT-deep, VPT + SAM, VPT + ImbSAM and RSAM-PT. With a checkpoint and a data set of
yours it is the papers' experiment; the second command's is CIFAR100-LT:

    accelerate launch examples/run_long_tail.py
    accelerate launch examples/run_long_tail.py --model google/vit-base-patch16-224-in21k --dataset cifar100 \
        --label_column fine_label --preprocessing cifar

A recipe (examples/recipes/long_tail/*.yaml) gives a method's prompt, loss and training arguments; an argument on the
command line overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import PartialState

from hf_sharp_prompt.experiments.command_line import make_console, prepare_process, use_all_cores
from hf_sharp_prompt.experiments.failures import run_script
from hf_sharp_prompt.experiments.long_tail import (
    COLUMNS,
    Experiment,
    describe_data,
    draw_by_group,
    list_runs,
    make_table,
    parse_arguments,
)
from hf_sharp_prompt.experiments.results import collect, write_json
from hf_sharp_prompt.experiments.runs import check_directories, end_of, run_all


RECIPES = Path(__file__).parent / "recipes" / "long_tail"


def main() -> int:
    prepare_process()
    args, methods = parse_arguments(sys.argv[1:], RECIPES, __doc__)
    use_all_cores()
    console = make_console()
    experiment = Experiment(args, methods[0].training.output_dir)
    runs = list_runs(experiment, methods)
    check_directories(runs)
    console.print(describe_data(experiment), soft_wrap=True)
    results = collect(experiment.directory, experiment.identity, run_all(runs, console, COLUMNS))
    console.print(make_table(experiment.name, results))
    if PartialState().is_main_process:
        write_json(experiment.directory / "summary.json", results)
        draw_by_group(experiment, results)
    console.print(
        f"Adapters are in {experiment.directory}/METHOD/seedN, summary.json and accuracy_by_group.png beside them.",
        soft_wrap=True,
    )
    return end_of([results], [run.publication for run in runs if run.publication is not None], console)


if __name__ == "__main__":
    run_script(main)
