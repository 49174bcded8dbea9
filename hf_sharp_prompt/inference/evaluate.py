"""Measure a trained adapter on a data set.

Of an adapter that classifies images: its accuracy, that of each class, and its calibration. Of one that finds objects:
the mean average precision (mAP). Of one that segments: the mean intersection over union (mIoU) and the pixel accuracy.

    sharp-prompt evaluate runs/train/flowers/gcscoop/seed1 --dataset my/folder/of/images
    sharp-prompt evaluate someone/prompts-flowers --dataset oxford_pets --split test --format json
    sharp-prompt evaluate runs/detection/street/coop/seed1 --dataset my/folder/of/coco

An adapter of CLIP takes the classes of the data set, whether or not it was trained on them. One with a head
has classes of its own, and those of the data set must be among them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from .. import progress
from ..class_names import names_or_file
from ..experiments.manuals.detection import MANUAL as DETECTION
from ..experiments.manuals.segmentation import MANUAL as SEGMENTATION
from ..experiments.manuals.shared import SHARED
from .options import Parser, at_least
from .output import write


FORMATS = ("table", "json")
LOADING = {
    **{name: SHARED[name] for name in ("data_root", "image_column", "label_column", "on_bad_image")},
    "box_format": DETECTION["box_format"],
    "mask_column": SEGMENTATION["mask_column"],
    "ignored_value": replace(SEGMENTATION["ignored_value"], settings={"type": at_least(0)}),
}
"""The arguments of loading data that evaluate takes as the protocols do; each task takes some."""


def make_parser() -> Parser:
    """Make the parser of the command line."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--dataset",
        required=True,
        help="The data set: a folder with a folder of images for each class, a Hub id, or another that `train` takes.",
    )
    parser.add_argument("--split", help="The split to measure on. Default: test, or the only one.")
    for name, option in LOADING.items():
        option.add_to(parser, name)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="A table for people, or one JSON object, in which shares are from 0 to 1 and all images that are left "
        "out are listed. Default: %(default)s.",
    )
    parser.add_model_options("the data set")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
    class_names = names_or_file(args.class_names)
    # Only now, so that --help need not wait for torch.
    from ..experiments.console import make_console, prepare_process, use_all_cores
    from .loading import has_head, read_config, task_of
    from .measuring import MEASUREMENTS
    from .predictor import Settings
    from .predictors import PREDICTORS, load_predictor_for

    prepare_process()
    use_all_cores()
    progress.report("reading")
    config = read_config(args.adapter)
    task = task_of(config)
    if task not in PREDICTORS:
        raise ValueError(f"{args.adapter} is for the task {task!r}, which is not measured by this command.")
    loading = {name: getattr(args, name) for name, option in LOADING.items() if getattr(args, name) != option.default}
    if class_names is not None:
        loading["class_names"] = class_names
    elif has_head(config):  # No prompts are made of the classes' names, so codes and numbers are accepted.
        loading["class_names"] = {}
    data = MEASUREMENTS[task](args.dataset, args.split, **loading)
    settings = Settings(image_size=args.image_size)
    predictor = load_predictor_for(data.class_names, args.adapter, args.model, args.template, settings)
    measured = {"adapter": args.adapter, "dataset": args.dataset, "split": data.name}
    measured |= data.measure(predictor, args.batch_size, args.num_workers)
    if args.format == "json":
        measured["skipped_images"] = [image._asdict() for image in data.skipped]
        write(json.dumps(measured, indent=2, allow_nan=False) + "\n", sys.stdout)
    else:
        console = make_console()
        console.print(
            f"{args.adapter} on {args.dataset}, {data.name}: {len(data.rows)} images, in percent", soft_wrap=True
        )
        console.print(data.make_table(measured))
        if data.skipped:
            console.print(f"{len(data.skipped)} images are left out; --format json lists them.")
    return 0
