"""Open a page that compares hand-written and learned prompts on images, or put it on the Hub as a Space.

    sharp-prompt space runs/train/flowers/coop/seed1 runs/train/flowers/gcscoop/seed1
    sharp-prompt space someone/prompts-flowers --images photos
    sharp-prompt space runs/train/flowers/gcscoop/seed1 --push --repo_id me/flowers

On the page, images are dropped, class names are typed, and the shares that each prompt gives the classes stand side by
side; predictions of many images are written as CSV. A Space gets the app, what it installs, and the adapters.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import progress
from ..extras import check_installed
from ..files import written_whole
from ..inference.image_files import find_image_files
from ..inference.options import Parser, at_least
from ..inference.output import write


MOST_EXAMPLES = 50
"""The most images to pick from."""


def make_parser() -> Parser:
    """Make the parser of the command line."""
    parser = Parser(__doc__, adapters="+")
    parser.add_argument(
        "--model",
        help="The base model: a Hub id, a directory, or demo for the embedded demo's CLIP. Default: the one that the "
        "adapters name.",
    )
    parser.add_argument(
        "--template",
        help="The hand-written prompt that stands there at first; {} is the class. Default: the words that the first "
        "adapter's context started from.",
    )
    parser.add_argument(
        "--images",
        metavar="IMAGES",
        nargs="+",
        help="Images to pick from: files, folders, or patterns such as 'photos/*.jpg'. Default: none.",
    )
    parser.add_argument(
        "--port", type=at_least(1), help="Where the page is served. Default: the first free from 7860."
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--output_dir", help="Write the Space's files to this directory, for a look at them, and do not open the page."
    )
    instead.add_argument("--push", action="store_true", help="Put the Space on the Hub, and do not open the page.")
    parser.add_argument(
        "--repo_id", metavar="NAME", help="The Space's name, NAME or OWNER/NAME. Default: the first adapter's name."
    )
    parser.add_argument("--private", action="store_true", help="Let only its owner see a new Space.")
    parser.add_argument(
        "--requirement",
        help="What the Space installs, a line of requirements.txt. Default: this version of hf-sharp-prompt.",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
    if (args.repo_id or args.private) and not args.push:
        raise ValueError("--repo_id and --private are for a Space on the Hub; add --push, or drop them.")
    check_installed("sharp-prompt space", {"space": ["gradio"]})
    images = find_image_files(args.images) if args.images else []
    if len(images) > MOST_EXAMPLES:
        raise ValueError(f"--images names {len(images)} images, but at most {MOST_EXAMPLES} are offered; name fewer.")
    # Only now, so that --help and wrong paths need not wait for torch.
    from ..experiments.console import prepare_process, use_all_cores
    from .folder import load_prompts, open_space
    from .push import push_space
    from .writing import names_of_adapters, write_space

    prepare_process()
    use_all_cores()
    progress.report("reading")
    contents = (args.adapter, args.model, args.template, images, args.requirement)
    if args.output_dir:
        with written_whole(args.output_dir) as unfinished:
            write_space(unfinished, *contents)
        return 0
    with tempfile.TemporaryDirectory(prefix="space-") as parent:
        folder = Path(parent)
        write_space(folder, *contents)
        if args.push:
            load_prompts(folder)  # A Space that cannot start is not pushed.
            url = push_space(folder, args.repo_id or names_of_adapters(args.adapter)[0], args.private)
            write(f"{url}\n", sys.stdout)
        else:
            app = open_space(folder)
            progress.hide()
            app.launch(server_port=args.port, max_file_size="20mb")
    return 0
