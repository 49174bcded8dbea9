"""Classify images with a trained adapter, of CLIP or of a vision transformer.

    sharp-prompt predict runs/train/flowers/gcscoop/seed1 photos
    sharp-prompt predict someone/prompts-flowers 'photos/**/*.jpg' --top 2 --format jsonl > predictions.jsonl

Predictions go to standard output, image by image, and all else to standard error. An image that cannot be read is
named there, the others go on, and the exit code is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import progress
from ..class_names import list_names
from ..experiments.failures import FAILED
from .formats import FORMATS, make_format, rank
from .image_files import find_image_files
from .options import Parser, at_least
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
        default=5,
        help="How many classes to name for each image, most probable first. Default: %(default)s.",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="A line for each image (table), a row for each image and class (csv), or an object for each image "
        "(jsonl). Default: %(default)s.",
    )
    parser.add_model_options("the adapter")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
    paths, class_names = find_image_files(args.images), list_names(args.class_names)
    # Only now, so that --help and wrong paths need not wait for torch.
    from ..experiments.console import prepare_process, use_all_cores
    from .classifier import load_classifier
    from .in_order import probabilities_in_order

    prepare_process()
    use_all_cores()
    progress.report("reading", 0, len(paths))
    classifier = load_classifier(args.adapter, args.model, class_names, args.template)
    form = make_format(args.format, paths, classifier.class_names)
    failed = 0
    write(form.header(), sys.stdout)
    answers = probabilities_in_order(classifier, paths, args.batch_size, args.num_workers)
    for number, (path, answer) in enumerate(zip(paths, answers, strict=True), start=1):
        if isinstance(answer, str):
            failed += 1
            write(f"{answer}\n", sys.stderr)
        else:
            write(form.lines(path, rank(answer.tolist(), classifier.class_names, args.top)), sys.stdout)
        if number % args.batch_size == 0:
            sys.stdout.flush()
            progress.report("predicting", number, len(paths))
    return FAILED if failed else 0
