"""Learn prompts from all classes of a data set, to be used: the result is an adapter.

A folder with a folder of images for each class is all it takes; two classes are enough. `sharp-prompt predict` then
classifies images with the adapter, and `sharp-prompt evaluate` measures it:

    sharp-prompt train --dataset my/folder/of/images --recipes gcscoop --output_dir OUT
    sharp-prompt train --dataset my/folder/of/images --model openai/clip-vit-base-patch16
    sharp-prompt train --dataset my/folder/of/images --recipes long_tail/ce --model google/vit-base-patch16-224-in21k

Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

from .manual import Manual, Option
from .shared import ALL, CLIP, UNFAMILIAR_TASKS


MANUAL = Manual(
    __doc__,
    {
        "dataset": Option(
            "The data set: a folder with a folder of images for each class, in folders called train and test where "
            "there are splits; a Hub id; or another that the protocols take, such as a task of the embedded demo.",
            [UNFAMILIAR_TASKS[0]],
            {"nargs": 1},
        ),
        "recipes": Option(
            "The method: a recipe's name (`sharp-prompt recipes` lists them), or the path of a YAML file like one. "
            "Recipes in long_tail/ train a vision transformer.",
            ["gcscoop"],
            {"nargs": 1},
        ),
        "model": Option(
            "The base model, a Hub id or a directory: a CLIP such as openai/clip-vit-base-patch16, or for recipes in "
            "long_tail/ a ViT, DeiT, BEiT or DINOv2. Default: the embedded demo's."
        ),
        "output_dir": Option("The directory of results; the adapter is in DATASET/RECIPE/seedN in it.", "runs/train"),
        "shots": Option("Training images per class, for CLIP.", ALL),
        "seeds": Option("The seed of what is drawn, the initialisation and the order.", [1]),
        "eval_split": Option(
            "The split to measure on; without a test split the validation split, or else the training images.", "test"
        ),
        **{
            name: CLIP[name]
            for name in (
                "data_root",
                "class_names",
                "image_column",
                "label_column",
                "on_bad_image",
                "cache_features",
                "hub_collection",
                "smoke",
            )
        },
    },
)
