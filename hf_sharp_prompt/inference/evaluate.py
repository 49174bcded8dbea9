"""Measure a trained adapter on a data set: its accuracy, that of each class, and its calibration.

    sharp-prompt evaluate runs/train/flowers/gcscoop/seed1 --dataset my/folder/of/images
    sharp-prompt evaluate someone/prompts-flowers --dataset oxford_pets --split test --format json

An adapter of CLIP classifies into the classes of the data set, whether or not it was trained on them. One with a head
has classes of its own, and those of the data set must be among them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from .. import progress
from ..class_names import names_or_file
from ..experiments.manuals.shared import SHARED
from .options import Parser
from .output import write


FORMATS = ("table", "json")
LOADING = ("data_root", "image_column", "label_column", "on_bad_image")
"""The arguments of `load_image_dataset` that evaluate takes as the protocols do."""


def make_parser() -> Parser:
    """Make the parser of the command line."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--dataset",
        required=True,
        help="The data set: a folder with a folder of images for each class, a Hub id, or another that `train` takes.",
    )
    parser.add_argument("--split", help="The split to measure on. Default: test, or the only one.")
    for name in LOADING:
        SHARED[name].add_to(parser, name)
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
    from ..data import SkippedImage
    from ..experiments.console import make_console, prepare_process, use_all_cores
    from .classifier import has_head, read_config
    from .measuring import load_classifier_for, load_split, make_table, measure

    prepare_process()
    use_all_cores()
    progress.report("reading")
    # No prompts are made of the classes' names for a head, so codes and numbers are accepted there.
    accepts_codes = class_names is None and has_head(read_config(args.adapter))
    loading = {name: getattr(args, name) for name in LOADING}
    skipped: list[SkippedImage] = []
    names = {} if accepts_codes else class_names
    split, images = load_split(args.dataset, args.split, class_names=names, skipped=skipped, **loading)
    skipped = [image for image in skipped if image.split == split]
    classifier = load_classifier_for(images.features["label"].names, args.adapter, args.model, args.template)
    measured = {"adapter": args.adapter, "dataset": args.dataset, "split": split}
    measured |= measure(classifier, images, args.batch_size, args.num_workers)
    if args.format == "json":
        measured["skipped_images"] = [image._asdict() for image in skipped]
        write(json.dumps(measured, indent=2, allow_nan=False) + "\n", sys.stdout)
    else:
        console = make_console()
        console.print(f"{args.adapter} on {args.dataset}, {split}: {len(images)} images, in percent", soft_wrap=True)
        console.print(make_table(measured))
        if skipped:
            console.print(f"{len(skipped)} images are left out; --format json lists them.")
    return 0
