"""The command line: `sharp-prompt convert IN OUT --base MODEL`, or `python -m hf_sharp_prompt.convert`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..class_names import list_names
from ..printable import printable


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="sharp-prompt convert",
        description="Convert prompts of CoOp, CoCoOp, KgCoOp, ProGrad, MaPLe, VPT and IVLP to adapters, and back.",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="A model.pth.tar-N, or the directory of an adapter.")
    parser.add_argument("target", metavar="OUT", type=Path, help="The other of the two, which is written.")
    parser.add_argument("--base", help="The CLIP a model.pth.tar-N was trained on: a Hub id or directory.")
    parser.add_argument(
        "--class_names", nargs="+", help="The classes to classify into, or a file with one on each line."
    )
    parser.add_argument("--class_template", help="The text around a class name, {}; by default the design's.")
    parser.add_argument(
        "--class_token_position", default="end", help="Where the name stands in CoOp's context: end, middle or front."
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names.

    Args:
        argv: The arguments; by default those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.source.is_dir() and args.base is None:
        parser.error("--base is needed: the CLIP that the prompt was trained on")
    # Only now, so that --help need not wait for torch.
    from transformers.utils import logging

    from .conversion import adapter_from_checkpoint, checkpoint_from_adapter

    logging.disable_progress_bar()
    # PEFT asks transformers about its gradient checkpointing under the old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    try:
        if args.source.is_dir():
            checkpoint_from_adapter(args.source, args.target)
            return 0
        names = list_names(args.class_names)
        config = adapter_from_checkpoint(
            args.source, args.target, args.base, names, args.class_template, args.class_token_position
        )
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)
    if config.class_names is None:
        print(f"To classify with it, call model.set_classes(names, tokenizer, template={config.class_template!r}).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
