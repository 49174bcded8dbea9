r"""Long-tailed recognition: learn prompts in a vision transformer from classes of which most are rare.

Without arguments everything is on board. With a checkpoint and a data set of yours it is the papers' experiment; the
second command's is CIFAR100-LT:

    accelerate launch examples/run_long_tail.py
    accelerate launch examples/run_long_tail.py --model google/vit-base-patch16-224-in21k --dataset cifar100 \
        --label_column fine_label --preprocessing cifar

`--help` lists the arguments; `sharp-prompt long_tail` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "long_tail"]
    from hf_sharp_prompt.__main__ import main

    main()
