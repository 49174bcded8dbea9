"""The pictures beside a card: predictions, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..plots import plot_curve
from .escaping import escape
from .history import CURVE_NAME, PICTURE_NAME, History


PLACES = ("epoch", "step")
"""What a row of a curve says besides what was measured."""
MAX_LINES = 6


def write_pictures(history: History, folder: Path) -> None:
    """Write the pictures that the card of this history shows into the card's folder."""
    if history.picture is not None:
        (folder / PICTURE_NAME).write_bytes(history.picture)
    if is_drawn(history.curve):
        plot_curve(history.curve, names_in(history.curve), folder / CURVE_NAME)


def is_drawn(curve: Sequence[Mapping[str, float]]) -> bool:
    """Tell whether a curve has a picture: of several points and few lines, where matplotlib is installed."""
    return len(curve) > 1 and 0 < len(names_in(curve)) <= MAX_LINES and find_spec("matplotlib") is not None


def names_in(curve: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of what was measured."""
    return [name for name in dict.fromkeys(name for row in curve for name in row) if name not in PLACES]


def curve_in_words(curve: Sequence[Mapping[str, float]]) -> str:
    """Say what the picture of a curve shows, for who cannot see it."""
    parts = []
    for name in names_in(curve):
        values = [row[name] for row in curve if name in row]
        parts.append(f"{escape(name.replace('_', ' '))} goes from {values[0]:.3f} to {values[-1]:.3f}")
    return ", ".join(parts)
