"""Classify images with a trained adapter, find objects in them, or segment them: what it was trained for.

    sharp-prompt predict runs/train/flowers/gcscoop/seed1 photos
    sharp-prompt predict someone/prompts-flowers 'photos/**/*.jpg' --top 2 --format jsonl > predictions.jsonl
    sharp-prompt predict runs/detection/street/coop/seed1 photos --threshold 0.2 --nms 0.5 --output_dir pictures

Predictions go to standard output, image by image, and all else to standard error. An image that cannot be read is
named there, the others go on, and the exit code is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields

from .. import progress
from ..class_names import list_names
from ..experiments.failures import FAILED
from .formats import FORMATS, make_format
from .image_files import find_image_files
from .options import Parser, at_least, share
from .output import write


def make_parser() -> Parser:
    """Make the parser of the command line."""
    parser = Parser(__doc__)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="Image files; folders, with all images in them and below; or patterns such as 'photos/**/*.jpg'.",
    )
    parser.add_argument(
        "--top",
        type=at_least(1),
        help="How many classes or objects to name for each image, best first. Default: 5 classes, or all objects "
        "above the threshold.",
    )
    parser.add_argument(
        "--threshold",
        type=share,
        help="The score above which an object is found, or a pixel is not background, from 0 to 1. Default: 0.1 for "
        "objects, as in transformers, and 0.5 for pixels.",
    )
    parser.add_argument(
        "--nms",
        metavar="OVERLAP",
        type=share,
        help="Of two boxes of a class that overlap by more (intersection over union, from 0 to 1), drop that of the "
        "lower score. Default: no box is dropped, as in transformers.",
    )
    parser.add_argument(
        "--output_dir",
        help="Where to write, for each image, a picture with the boxes and scores of its objects, or with its classes "
        "in colours and a legend. Segmentation also writes the label map, NAME_labels.png, and classes.txt, which "
        "names its pixel values.",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="A line for each image (table), a row for each image and class, object or segment (csv), or an "
        "object for each image (jsonl). Boxes are left, top, right and bottom in pixels of the image. Default: "
        "%(default)s.",
    )
    parser.add_model_options("the adapter")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
    paths, class_names = find_image_files(args.images), list_names(args.class_names)
    # Only now, so that --help and wrong paths need not wait for torch.
    from ..experiments.console import prepare_process, use_all_cores
    from .in_order import Unread, answers_in_order
    from .pictures import Pictures
    from .predictor import Settings
    from .predictors import load_predictor

    prepare_process()
    use_all_cores()
    progress.report("reading", 0, len(paths))
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    predictor = load_predictor(args.adapter, args.model, class_names, args.template, settings)
    form = make_format(args.format, paths, predictor.class_names, predictor.prediction.columns)
    pictures = None if args.output_dir is None else Pictures(args.output_dir, paths, predictor)
    failed = 0
    write(form.header(), sys.stdout)
    answers = answers_in_order(predictor, paths, args.batch_size, args.num_workers)
    for number, (path, answer) in enumerate(zip(paths, answers, strict=True), start=1):
        if isinstance(answer, Unread):
            failed += 1
            write(f"{answer.reason}\n", sys.stderr)
        else:
            write(form.lines(path, predictor.predictions(answer)), sys.stdout)
            if pictures is not None:
                pictures.write(path, answer)
        if number % args.batch_size == 0:
            sys.stdout.flush()
            progress.report("predicting", number, len(paths))
    return FAILED if failed else 0
