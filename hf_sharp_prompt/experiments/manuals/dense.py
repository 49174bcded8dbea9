"""The arguments of the protocols that find objects or segment, on base and novel categories."""

from __future__ import annotations

from .manual import Option
from .shared import ALL, SHARED


SCENE_TASKS = (
    "scenes_colour_shape_tint",
    "scenes_colour_shape_rain",
    "scenes_texture_shape_fog",
    "scenes_texture_shape_print",
)
"""The names of `demo.SCENE_TASKS`, whose import takes a second; the first is its default."""

DENSE = {
    "model": Option("A Hub id or a directory. Default: the embedded demo's."),
    "dataset": Option("The data set.", [SCENE_TASKS[0]]),
    "class_names": SHARED["class_names"],
    "base_classes": Option(
        "A file with the names of the base categories, which are learned from, one on each line. Default: the first "
        "half of the categories, or those that --novel_classes leaves."
    ),
    "novel_classes": Option(
        "A file with the names of the novel categories, which are only measured on. Default: those that are not base."
    ),
    "shots": Option(f"Training images for each base category, or '{ALL}' that there are.", "16"),
    "template": Option("The hand-written prompt of the model without learned prompts.", "a photo of a {}."),
    "cache_features": Option(
        "Encode each image once, and train and measure on its features, kept in memory or, for later runs as well, on "
        "disk (in HF_ASSETS_CACHE), which is what the flag alone means. With 'no', images are encoded in every step. "
        "Prompts in the image tower have no features that stay.",
        "memory",
        {"choices": ["memory", "disk", "no"], "nargs": "?", "const": "disk"},
    ),
    "recipes": SHARED["recipes"].with_default(["coop", "coop_sam", "gcscoop", "subpt"]),
    "seeds": SHARED["seeds"],
    "eval_split": SHARED["eval_split"],
    "output_dir": SHARED["output_dir"],
    "hub_collection": SHARED["hub_collection"],
    "smoke": SHARED["smoke"],
}
"""The arguments of both protocols."""
