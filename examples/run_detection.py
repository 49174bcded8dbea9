"""Open-vocabulary detection: learn prompts from objects of base categories, find those of base, novel and all.

Without arguments everything is on board: OWL-ViT with a hand-written text, CoOp, CoOp + SAM, GCSCoOp and SubPT on a
task of the embedded demo, three seeds each. With a checkpoint and data of yours:

    accelerate launch examples/run_detection.py
    accelerate launch examples/run_detection.py --model google/owlvit-base-patch32 --dataset my/coco

`--help` lists the arguments; `sharp-prompt detection` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "detection"]
    from hf_sharp_prompt.__main__ import main

    main()
