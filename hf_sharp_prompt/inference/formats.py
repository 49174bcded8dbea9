"""How predictions are written: as a table for people, as CSV, or as JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..printable import printable


LONGEST_COLUMN = 60
"""How many characters of a name align the columns of a table; longer names are written whole, unaligned."""


class Prediction(NamedTuple):
    """A class and its probability."""

    label: str
    score: float


def rank(probabilities: Sequence[float], class_names: Sequence[str], top: int) -> list[Prediction]:
    """Return the most probable classes; of equal ones that which comes first.

    Args:
        probabilities: Each class's.
        class_names: The classes' names.
        top: How many to return, at most.
    """
    predictions = map(Prediction, class_names, probabilities)
    return sorted(predictions, key=lambda each: each.score, reverse=True)[:top]  # Sorting keeps the order of equals.


class Format(Protocol):
    """A way to write predictions. Each line is complete when it is made, so that any number can be written."""

    def header(self) -> str:
        """Return what stands before the first image's lines."""

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        """Return an image's lines, most probable class first."""


class JSONLines:
    """An object a line; names are exactly the files', whatever characters they have."""

    def header(self) -> str:
        return ""

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        return json.dumps({"image": path, "predictions": [each._asdict() for each in predictions]}) + "\n"


class CSV:
    """A row for each image and class; control characters in names are escaped."""

    def header(self) -> str:
        return "image,rank,label,score\n"

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            (printable(path), rank, printable(label), f"{score:.6f}")
            for rank, (label, score) in enumerate(predictions, start=1)
        )
        return rows.getvalue()


class Table:
    """A line for each image, whose columns are aligned; control characters in names are escaped.

    Args:
        paths: All images, for the width of the first column.
        class_names: All classes, for the width of the others.
    """

    def __init__(self, paths: Sequence[str], class_names: Sequence[str]) -> None:
        self.path_width, self.label_width = (
            min(LONGEST_COLUMN, max(len(printable(name)) for name in names)) for names in (paths, class_names)
        )

    def header(self) -> str:
        return ""

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        columns = [f"{100 * score:5.1f}% {printable(label):{self.label_width}}" for label, score in predictions]
        return "  ".join([f"{printable(path):{self.path_width}}", *columns]).rstrip() + "\n"


FORMATS = ("table", "csv", "jsonl")


def make_format(name: str, paths: Sequence[str], class_names: Sequence[str]) -> Format:
    """Make one of [`FORMATS`] for these images and classes."""
    if name == "table":
        return Table(paths, class_names)
    return CSV() if name == "csv" else JSONLines()
