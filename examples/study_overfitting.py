"""Do prompts overfit, and which method keeps them from it? The tables and figures of the papers, on the demo.

Without arguments every method runs on every task of the embedded demo, three seeds each. It takes the arguments of
run_base2novel.py, so it may be kept small, or be run on data of yours:

    accelerate launch examples/study_overfitting.py
    accelerate launch examples/study_overfitting.py --dataset colour_shape_tint --recipes coop subpt gcscoop
    accelerate launch examples/study_overfitting.py --model openai/clip-vit-base-patch16 --dataset oxford_pets

`--help` lists the arguments and says what is drawn.
"""

import sys

from hf_sharp_prompt.experiments import overfitting
from hf_sharp_prompt.experiments.failures import run_script


def main() -> int:
    return overfitting.main(sys.argv[1:])


if __name__ == "__main__":
    run_script(main)
