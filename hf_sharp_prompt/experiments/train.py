"""Learn prompts from all classes of a data set, to be used: the result is an adapter.

A folder with a folder of images for each class is all it takes; two classes are enough. `sharp-prompt predict` then
classifies images with the adapter, and `sharp-prompt evaluate` measures it:

    sharp-prompt train --dataset my/folder/of/images --recipes gcscoop --output_dir OUT
    sharp-prompt train --dataset my/folder/of/images --model openai/clip-vit-base-patch16
    sharp-prompt train --dataset my/folder/of/images --recipes long_tail/ce --model google/vit-base-patch16-224-in21k

Interrupted, the same command continues where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .train_options import OPTIONS


MANUAL = __doc__
REST = """
Everything that a recipe sets can be set here, too, such as --learning_rate, --num_train_epochs or --sharpness.
--help_all lists all arguments, of which there are many.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    if {"-h", "--help"} & {*argv}:
        print(make_manual().format_help(), end="")
        return 0
    from .all_classes import train  # Only now, so that --help need not wait for torch.

    return train(["--help" if word == "--help_all" else word for word in argv], MANUAL)


def make_manual() -> argparse.ArgumentParser:
    """Make a parser of what people set first, for its help."""
    layout = argparse.RawDescriptionHelpFormatter
    manual = argparse.ArgumentParser(description=MANUAL, epilog=REST, formatter_class=layout, add_help=False)
    for name, text in OPTIONS.items():
        manual.add_argument(f"--{name}", help=text)
    return manual
