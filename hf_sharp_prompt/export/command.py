"""Write a trained adapter for those who do not run PEFT.

    sharp-prompt export runs/train/flowers/gcscoop/seed1 flowers --format onnx
    sharp-prompt export someone/prompts-flowers flowers --format head open_clip

What is written to FOLDER:

    head          zero_shot_head.safetensors: an embedding of each class, with names and template. Together with the
                  base model's own image tower it classifies.
    open_clip     open_clip.safetensors: the same, laid out as open_clip's zero-shot weights.
    onnx          classifier.onnx: images and texts of any classes in, logits out.
    onnx_towers   text.onnx and image.onnx: the same in two parts, for servers that encode classes once.
    transformers  a plain CLIPModel and its tokenizer: the learned context has become words of the vocabulary.

The image processor, and the tokenizer where texts are read, are written beside a model. A format that cannot hold the
adapter's design says which one can.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import progress
from ..class_names import list_names
from ..inference.options import Parser
from ..inference.output import write


FORMATS = ("head", "open_clip", "onnx", "onnx_towers", "transformers")


def make_parser() -> Parser:
    """Make the parser of the command line."""
    parser = Parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="Where to write.")
    parser.add_argument("--format", nargs="+", choices=FORMATS, required=True, help="What to write; see above.")
    parser.add_loading_options("the adapter")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
    class_names = list_names(args.class_names)
    # Only now, so that --help need not wait for torch.
    from ..experiments.console import prepare_process, use_all_cores
    from ..inference.loading import load_adapter
    from .formats import WRITERS

    prepare_process()
    use_all_cores()
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # They report what they do not optimise.
    for name in dict.fromkeys(args.format):
        progress.report("exporting")
        adapter = load_adapter(args.adapter, args.model, class_names, args.template)
        WRITERS[name](adapter, args.folder)
        write(f"{name}: {args.folder}\n", sys.stdout)
    return 0
