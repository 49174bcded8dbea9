"""Open-vocabulary detection: learn prompts from objects of base categories, find those of base, novel and all.

Without arguments everything is on board: OWL-ViT with a hand-written text, CoOp, CoOp + SAM, GCSCoOp and SubPT on a
task of the embedded demo, three seeds each. With a checkpoint and data of yours:

    accelerate launch -m hf_sharp_prompt detection
    accelerate launch -m hf_sharp_prompt detection --model google/owlvit-base-patch32 --dataset my/coco

Where no prompt is in the image tower, the boxes are those of the frozen head, and only which category each box has is
learned. A recipe sets a method's prompt and training arguments; `sharp-prompt recipes` lists them. An argument on the
command line overrides every recipe's. Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .dense import DENSE, SCENE_TASKS
from .manual import Manual, Option


MANUAL = Manual(
    __doc__,
    {
        **DENSE,
        "model": Option("An OWL-ViT or OWLv2 checkpoint: a Hub id or a directory. Default: the embedded demo's."),
        "dataset": Option(
            "One or more of: a folder in COCO's layout (images and annotations/instances_train.json, or "
            "train/_annotations.coco.json), a folder of images with a metadata.jsonl that has objects, a data set "
            "saved with save_to_disk or a Hub id that has a column of objects, a task of the embedded demo "
            f"({', '.join(SCENE_TASKS)}), or 'all' for all of the demo's.",
            [SCENE_TASKS[0]],
        ),
        "box_format": Option(
            "How boxes are written, in pixels: left, top, width, height as in COCO; left, top, right, bottom; or the "
            "centre, width and height.",
            "xywh",
            {"choices": ["xywh", "xyxy", "cxcywh"]},
        ),
        "output_dir": DENSE["output_dir"].with_default("runs/detection"),
    },
)
