"""Lists of class names that objectives compare texts of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..hyperparameters import nearest
from .imagenet import IMAGENET_100_CLASSES
from .text_lines import read_lines


NAME_LISTS: dict[str, Sequence[str]] = {"imagenet_100": IMAGENET_100_CLASSES}
"""The lists of class names that come with the package, by name."""


def is_list_of_class_names(source: str) -> bool:
    """Tell whether `read_class_names` can read it: a key of `NAME_LISTS` or a file's path."""
    return source in NAME_LISTS or Path(source).expanduser().is_file()


def read_class_names(source: str, objective: str) -> Sequence[str]:
    """Read a list of class names.

    Args:
        source: A key of `NAME_LISTS`, or the path of a text file with one name in each line.
        objective: The name of the objective that takes the names, for the error.

    Raises:
        ValueError: There is neither such a list nor such a file.
    """
    if not is_list_of_class_names(source):
        raise ValueError(
            f"{objective}: there are no class names {source!r}{nearest(source, NAME_LISTS)} Give a list of names, a "
            f"text file with one in each line, or one of: {', '.join(NAME_LISTS)}."
        )
    return NAME_LISTS[source] if source in NAME_LISTS else read_lines(source)
