"""Zero-shot segmentation: learn prompts from pixels of base classes, segment base, novel and all classes.

Without arguments everything is on board: CLIPSeg with a hand-written text, CoOp, CoOp + SAM, GCSCoOp and SubPT on a
task of the embedded demo, three seeds each. With a checkpoint and data of yours, or with a CLIP:

    accelerate launch examples/run_segmentation.py
    accelerate launch examples/run_segmentation.py --model CIDAS/clipseg-rd64-refined --dataset VOCdevkit/VOC2012

`--help` lists the arguments; `sharp-prompt segmentation` is the same command.
"""

import sys


if __name__ == "__main__":
    # This is said before the import, so that --help does not wait for torch.
    sys.argv[:1] = ["sharp-prompt", "segmentation"]
    from hf_sharp_prompt.__main__ import main

    main()
