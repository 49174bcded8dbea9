"""What people set when they train an adapter. Nothing here imports torch, so that `--help` answers at once."""

from __future__ import annotations


OUTPUT_DIR = "runs/train"
RECIPE = "gcscoop"
SEED = 1

OPTIONS = {
    "dataset": "The data set: a folder with a folder of images for each class, in folders called train and test where "
    "there are splits; a Hub id; or a data set saved with save_to_disk. Default: a task of the embedded demo.",
    "recipes": "The method: a recipe's name (`sharp-prompt recipes` lists them), or the path of a YAML file like one. "
    f"Recipes in long_tail/ train a vision transformer. Default: {RECIPE}.",
    "model": "The base model, a Hub id or a directory: a CLIP such as openai/clip-vit-base-patch16, or for recipes in "
    "long_tail/ a ViT, DeiT, BEiT or DINOv2. Default: the embedded demo's.",
    "output_dir": f"The directory of results; the adapter is in DATASET/RECIPE/seedN in it. Default: {OUTPUT_DIR}.",
    "shots": "Training images per class, for CLIP. Default: all.",
    "seeds": f"The seed of what is drawn, the initialisation and the order. Default: {SEED}.",
    "eval_split": "The split to measure on. Default: test; without one validation, or else the training images.",
}
"""The help of each option."""
