"""The arguments that all protocols have, and those that all protocols of CLIP have."""

from __future__ import annotations

from collections.abc import Sequence

from .manual import Option


ALL = "all"
"""As a number of shots: all training images."""

VIEWS = 10
"""Views of each training image whose features are cached; the papers draw a new one in every step."""

UNFAMILIAR_TASKS = (
    "colour_shape_tint",
    "colour_shape_rain",
    "colour_shape_poster",
    "colour_shape_emboss",
    "texture_shape_fog",
    "texture_shape_print",
    "texture_colour_night",
    "texture_colour_emboss",
)
"""The names of `demo.UNFAMILIAR_TASKS`, whose import takes a second; the first is the demo's default."""

FAMILIAR_TASKS = (
    "texture_shape_photo",
    "texture_colour_shape_blurry",
    "texture_colour_noisy",
    "colour_texture_shape_dark",
    "texture_shape_faded",
    "texture_colour_shape_old",
    "texture_colour_photo",
    "colour_texture_shape_sketch",
)
"""The names of `demo.FAMILIAR_TASKS`."""


def dataset_option(tasks: Sequence[str]) -> Option:
    """Describe `--dataset` for a protocol that runs on these tasks and the familiar ones, by default on the first."""
    return Option(
        "One or more of: a folder with a folder of images for each class, a table (CSV, TSV, JSON, JSONL, Parquet) or "
        "text list of paths and labels, a WebDataset, a data set saved with save_to_disk, a Hub id, a task of the "
        f"embedded demo in a style that its models have never seen ({', '.join(tasks)}), 'all' for all of these, a "
        f"task of the demo in a style of their pre-training ({', '.join(FAMILIAR_TASKS)}), or 'familiar' for all of "
        "these.",
        [tasks[0]],
    )


SHARED = {
    "model": Option("A Hub id or a directory."),
    "dataset": dataset_option(UNFAMILIAR_TASKS),
    "data_root": Option(
        "The folder that has the papers' data sets in folders called as in CoOp's code, so that --dataset "
        "oxford_pets is read from its folder oxford_pets. Default: the Hub."
    ),
    "class_names": Option(
        "A file with the names of the classes: one on each line in the order of the labels, or JSON: a list, or an "
        "object from the data set's names or numbers to names. Default: the data set's own."
    ),
    "image_column": Option("The column of the images. Default: the one whose feature is an Image."),
    "label_column": Option("The column of the labels. Default: the one whose feature is a ClassLabel."),
    "on_bad_image": Option(
        "What to do about images that cannot be read: raise an error, or skip them, for which all images are checked "
        "first.",
        "raise",
        {"choices": ["raise", "skip"]},
    ),
    "recipes": Option(
        "The methods to run: names of recipes (`sharp-prompt recipes` lists them), or paths of YAML files like them. "
        "A sharpness rule, an objective or a loss may be added with a plus, as in coop+asam.",
        [],
    ),
    "seeds": Option(
        "Seeds, each one run per method: of what is drawn, the initialisation and the order.",
        [1, 2, 3],
    ),
    "eval_split": Option("The split to measure on: test, or validation to choose hyperparameters.", "test"),
    "runs_at_once": Option(
        "How many runs are done at a time, side by side in processes of one thread, on a CPU only. Default: as many "
        "as torch has threads (OMP_NUM_THREADS, or the cores) where a step is too small for several threads, else 1."
    ),
    "output_dir": Option("The directory of results; a later method or seed is added to those that it has."),
    "hub_collection": Option(
        "The title of a collection on the Hub into which the repositories go that --push_to_hub pushes to. It is made "
        "if it is not there. Default: none."
    ),
    "smoke": Option(
        "Try the command in seconds: a few images, one seed and two epochs, in a directory beside the output "
        "directory. What it measures is no result.",
        False,
    ),
}
"""The arguments of all protocols."""

CLIP = {
    **SHARED,
    "model": Option("A CLIP checkpoint: a Hub id or a directory. Default: the embedded demo's."),
    "shots": Option(f"Training images per class, or '{ALL}' that there are.", "16"),
    "template": Option(
        "The hand-written prompt of zero-shot CLIP. Default: the data set's own, or 'a photo of a {}.'."
    ),
    "cache_features": Option(
        "Encode each image once, and train and measure on its features, kept in memory or, for later runs as well, on "
        "disk (in HF_ASSETS_CACHE), which is what the flag alone means. With 'no', training images are augmented and "
        "encoded again in every step, as in the papers. Default: memory on the demo or with --augmented_views, else "
        "no.",
        None,
        {"choices": ["memory", "disk", "no"], "nargs": "?", "const": "disk"},
    ),
    "augmented_views": Option(
        "How many randomly cropped and flipped views of each training image have their features cached, each step "
        f"drawing one; 0 is the image as it is. Default: 0 on the demo, else {VIEWS}."
    ),
    "together": Option(
        "Whether the methods and seeds of a data set are trained at once, where they learn nothing but the context of "
        "texts from cached features: the text tower's work is done for all in one pass. auto does so on an "
        "accelerator; their results are those of single runs up to the order of sums.",
        "auto",
        {"choices": ["auto", "yes", "no"]},
    ),
}
"""The arguments of all protocols that classify with CLIP."""
