r"""Domain generalisation: learn prompts of all classes of one data set, and measure them on variants of its images.

Without arguments everything is on board. With a checkpoint and data sets of yours it is the papers' experiment:

    accelerate launch examples/run_domain_generalization.py
    accelerate launch examples/run_domain_generalization.py --model openai/clip-vit-base-patch16 --dataset imagenet \
        --targets imagenetv2 imagenet_sketch imagenet_a imagenet_r

`--help` lists the arguments; `sharp-prompt domain_generalization` is the same command.
"""

import sys

from hf_sharp_prompt.experiments import domain_generalization
from hf_sharp_prompt.experiments.failures import run_script


def main() -> int:
    return domain_generalization.main(sys.argv[1:])


if __name__ == "__main__":
    run_script(main)
