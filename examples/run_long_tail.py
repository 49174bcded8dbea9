r"""Long-tailed recognition: learn prompts in a vision transformer from classes of which most are rare.

Without arguments everything is on board. With a checkpoint and a data set of yours it is the papers' experiment; the
second command's is CIFAR100-LT:

    accelerate launch examples/run_long_tail.py
    accelerate launch examples/run_long_tail.py --model google/vit-base-patch16-224-in21k --dataset cifar100 \
        --label_column fine_label --preprocessing cifar

`--help` lists the arguments; `sharp-prompt long_tail` is the same command.
"""

import sys

from hf_sharp_prompt.experiments import long_tail
from hf_sharp_prompt.experiments.failures import run_script


def main() -> int:
    return long_tail.main(sys.argv[1:])


if __name__ == "__main__":
    run_script(main)
