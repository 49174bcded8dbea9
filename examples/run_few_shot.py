"""Few-shot learning: learn prompts of all classes from 1, 2, 4, 8, 16 and all images of each, and draw the curve.

Without arguments everything is on board. With a checkpoint and a data set of yours it is CoOp's experiment:

    accelerate launch examples/run_few_shot.py
    accelerate launch examples/run_few_shot.py --model openai/clip-vit-base-patch16 --dataset oxford_pets

`--help` lists the arguments; `sharp-prompt few_shot` is the same command.
"""

import sys

from hf_sharp_prompt.experiments import few_shot
from hf_sharp_prompt.experiments.failures import run_script


def main() -> int:
    return few_shot.main(sys.argv[1:])


if __name__ == "__main__":
    run_script(main)
