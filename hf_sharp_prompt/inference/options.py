"""The options of commands that use a trained adapter. Nothing here imports torch, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser of a command on an adapter, whose complaint is one sentence, without the usage before it.

    Args:
        description: The command's manual.
        adapters: How many adapters it takes, as argparse's `nargs`; by default one.
    """

    def __init__(self, description: str, adapters: str | None = None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument(
            "adapter",
            metavar="ADAPTER",
            nargs=adapters,
            help="The directory of a trained adapter, such as runs/train/flowers/gcscoop/seed1, or its Hub id.",
        )

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message[:1].upper()}{message[1:]}; --help lists the arguments.")

    def add_model_options(self, own_classes: str) -> None:
        """Add the options that say how the adapter is loaded, and how images are run through it.

        Args:
            own_classes: Whose classes are the default.
        """
        self.add_loading_options(own_classes)
        self.add_argument(
            "--image_size",
            type=at_least(1),
            help="Segmentation: height and width that images are scaled to. Default: the model's.",
        )
        self.add_argument(
            "--batch_size",
            type=at_least(1),
            default=64,
            help="Images that the model takes at a time. Default: %(default)s.",
        )
        self.add_argument(
            "--num_workers",
            type=at_least(0),
            help="Processes that read images. Default: one for each core but one, at most 8; none for few images.",
        )

    def add_loading_options(self, own_classes: str) -> None:
        """Add the options that say how the adapter is loaded.

        Args:
            own_classes: Whose classes are the default.
        """
        self.add_argument(
            "--model", help="The base model: a directory or a Hub id. Default: the one that the adapter names."
        )
        self.add_argument(
            "--class_names",
            nargs="+",
            metavar="NAME",
            help="The classes: two or more names, or a file with a name on each line or of JSON. Default: those of "
            f"{own_classes}.",
        )
        self.add_argument(
            "--template", help="The text around a class name, {}. Default: the one that the adapter was trained with."
        )


def at_least(lowest: int) -> Callable[[str], int]:
    """Make a type for argparse: whole numbers that are not below the lowest."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"it must be a whole number of at least {lowest}, got {text!r}")
        return number

    return read


def share(text: str) -> float:
    """Read a number from 0 to 1 for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"it must be a number from 0 to 1, got {text!r}")
    return number
