"""Base-to-novel generalisation: learn prompts from a few images of half of the classes, measure on both halves.

Without arguments everything is on board: zero-shot CLIP, CoOp, CoOp + SAM and GCSCoOp on a task of the embedded demo,
three seeds each. With a checkpoint and a data set of yours it is the papers' experiment:

    accelerate launch examples/run_base2novel.py
    accelerate launch examples/run_base2novel.py --model openai/clip-vit-base-patch16 --dataset my/folder/of/images

`--help` lists the arguments; `sharp-prompt base2novel` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "base2novel"]
    from hf_sharp_prompt.__main__ import main

    main()
