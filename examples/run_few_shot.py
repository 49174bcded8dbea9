"""Few-shot learning: learn prompts of all classes from 1, 2, 4, 8, 16 and all images of each, and draw the curve.

Without arguments everything is on board. With a checkpoint and a data set of yours it is CoOp's experiment:

    accelerate launch examples/run_few_shot.py
    accelerate launch examples/run_few_shot.py --model openai/clip-vit-base-patch16 --dataset oxford_pets

`--help` lists the arguments; `sharp-prompt few_shot` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "few_shot"]
    from hf_sharp_prompt.__main__ import main

    main()
