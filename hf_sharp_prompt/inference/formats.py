"""How predictions are written: as a table for people, as CSV, or as JSON lines."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from ..printable import printable


LONGEST_COLUMN = 60
"""How many characters of a name align the columns of a table; longer names are written whole, unaligned."""


class Prediction(Protocol):
    """One of the things that are predicted of an image: a dataclass, whose fields are those of its JSON.

    Attributes:
        label: The name of a class.
        columns: What `cells` are.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    columns: ClassVar[tuple[str, ...]]

    @property
    def label(self) -> str: ...

    def cells(self) -> tuple[str, ...]:
        """Return all but the label, for CSV."""

    def in_words(self, width: int) -> str:
        """Return it for people.

        Args:
            width: The length of the longest label.
        """


class Format(Protocol):
    """A way to write predictions. Each line is complete when it is made, so that any number can be written."""

    def header(self) -> str:
        """Return what stands before the first image's lines."""

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        """Return an image's lines, best prediction first."""


class JSONLines:
    """An object a line; names are exactly the files', whatever characters they have."""

    def header(self) -> str:
        return ""

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        return json.dumps({"image": path, "predictions": [dataclasses.asdict(each) for each in predictions]}) + "\n"


class CSV:
    """A row for each image and prediction; control characters in names are escaped.

    Args:
        columns: The columns behind the label.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def header(self) -> str:
        return ",".join(["image", "rank", "label", *self.columns]) + "\n"

    def lines(self, path: str, predictions: Sequence[Prediction]) -> str:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            (printable(path), rank, printable(each.label), *each.cells())
            for rank, each in enumerate(predictions, start=1)
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
        columns = [printable(each.in_words(self.label_width)) for each in predictions] or ["nothing"]
        return "  ".join([f"{printable(path):{self.path_width}}", *columns]).rstrip() + "\n"


FORMATS = ("table", "csv", "jsonl")


def make_format(name: str, paths: Sequence[str], class_names: Sequence[str], columns: Sequence[str]) -> Format:
    """Make one of [`FORMATS`] for these images and classes.

    Args:
        name: The format.
        paths: All images.
        class_names: All classes.
        columns: The columns of a prediction, besides its label.
    """
    if name == "table":
        return Table(paths, class_names)
    return CSV(columns) if name == "csv" else JSONLines()
