"""Read `classnames.txt`, in which CoOp's and LIFT's users have the names of ImageNet's classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


OTHER_NAMES = {"n04008634": "projectile", "n04355933": "sunglass"}
"""WordNet's names of two classes. In the file they are called "missile" and "sunglasses", as two others are."""


def name_classes(lines: Iterable[str]) -> dict[str, str]:
    """Read the lines of `classnames.txt`.

    Args:
        lines: A folder, such as a WordNet id, and after a space the name of the class.

    Returns:
        Folder → name, in the order of the lines.
    """
    return {folder: name for folder, _, name in (line.strip().partition(" ") for line in lines)}


def distinct_names(folders: Iterable[str], name_of: dict[str, str]) -> list[str]:
    """Name classes so that no two have the same name, because no classifier can tell them apart.

    Args:
        folders: The classes, by label.
        name_of: Folder → name.

    Returns:
        The names by label. One class of "missile" and one of "sunglasses" has its name in WordNet if both are there.
    """
    folders = list(folders)
    counts = Counter(name_of[folder] for folder in folders)
    return [
        OTHER_NAMES.get(folder, name_of[folder]) if counts[name_of[folder]] > 1 else name_of[folder]
        for folder in folders
    ]
