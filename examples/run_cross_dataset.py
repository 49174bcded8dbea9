r"""Cross-dataset transfer: learn prompts of all classes of one data set, and measure them on others as they are.

Without arguments everything is on board. With a checkpoint and data sets of yours it is the papers' experiment:

    accelerate launch examples/run_cross_dataset.py
    accelerate launch examples/run_cross_dataset.py --model openai/clip-vit-base-patch16 --dataset imagenet \
        --targets caltech101 oxford_pets

`--help` lists the arguments; `sharp-prompt cross_dataset` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "cross_dataset"]
    from hf_sharp_prompt.__main__ import main

    main()
