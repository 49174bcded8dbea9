"""Parameters that do not depend on each other take turns, instead of all being combined with all."""

from collections.abc import Sequence
from typing import Any


def rotate(*parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Every value of every parameter at least once, in as few combinations as the longest parameter has values.

    `rotate("abc", [1, 2])` is `[("a", 1), ("b", 2), ("c", 1)]`.
    """
    longest = max(len(values) for values in parameters)
    return [tuple(values[turn % len(values)] for values in parameters) for turn in range(longest)]
