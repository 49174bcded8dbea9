"""Zero-shot segmentation: learn prompts from pixels of base classes, segment base, novel and all classes.

Without arguments everything is on board: CLIPSeg with a hand-written text, CoOp, CoOp + SAM, GCSCoOp and SubPT on a
task of the embedded demo, three seeds each. With a checkpoint and data of yours, or with a CLIP, whose patches are
compared with the classes as MaskCLIP does:

    accelerate launch -m hf_sharp_prompt segmentation
    accelerate launch -m hf_sharp_prompt segmentation --model CIDAS/clipseg-rd64-refined --dataset VOCdevkit/VOC2012
    accelerate launch -m hf_sharp_prompt segmentation --model openai/clip-vit-base-patch16 --dataset ADE

Pixels of novel classes are ignored in training. What is measured is the mean intersection over union (mIoU) and the
pixel accuracy, at the masks' own size: of base classes among the base names, of novel ones among theirs, and of all
among all. CLIPSeg may answer that a pixel is background; a CLIP cannot, so that background is ignored for it. A recipe
sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the command line
overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .dense import DENSE, SCENE_TASKS
from .manual import Manual, Option


MANUAL = Manual(
    __doc__,
    {
        **DENSE,
        "model": Option(
            "A CLIPSeg checkpoint, or a CLIP, whose patches are compared with the classes: a Hub id or a directory. "
            "Default: the embedded demo's CLIPSeg."
        ),
        "dataset": Option(
            "One or more of: a folder as of Pascal VOC (JPEGImages, SegmentationClass, ImageSets/Segmentation) or "
            "ADE20K (images/training, annotations/training, objectInfo150.txt), a folder with a folder images and a "
            "folder masks, a data set saved with save_to_disk or a Hub id that has a column of masks, a task of the "
            f"embedded demo ({', '.join(SCENE_TASKS)}), or 'all' for all of the demo's.",
            [SCENE_TASKS[0]],
        ),
        "class_names": Option(
            "A file with the name of each pixel value of the masks, one on each line from 0. 'background' names "
            "pixels of no class, 'unlabelled' those that do not count. Default: the data set's own."
        ),
        "shots": DENSE["shots"].with_default("8"),
        "mask_column": Option("The column of the masks. Default: one with a usual name that holds pictures."),
        "ignored_value": Option("The pixel value that does not count.", 255),
        "image_size": Option(
            "Height and width that images are scaled to. Default: the model's. With a CLIP a larger one gives finer "
            "answers."
        ),
        "pixel_loss": Option(
            "The loss of pixels: binary, a sigmoid for each class, or multi_class, a softmax over the classes. "
            "Default: multi_class; a CLIP has no other.",
            None,
            {"choices": ["binary", "multi_class"]},
        ),
        "output_dir": DENSE["output_dir"].with_default("runs/segmentation"),
    },
)
