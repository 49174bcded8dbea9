r"""Domain generalisation: learn prompts of all classes of one data set, and measure them on variants of its images.

Without arguments everything is on board. With a checkpoint and data sets of yours it is the papers' experiment:

    accelerate launch examples/run_domain_generalization.py
    accelerate launch examples/run_domain_generalization.py --model openai/clip-vit-base-patch16 --dataset imagenet \
        --targets imagenetv2 imagenet_sketch imagenet_a imagenet_r

`--help` lists the arguments; `sharp-prompt domain_generalization` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "domain_generalization"]
    from hf_sharp_prompt.__main__ import main

    main()
