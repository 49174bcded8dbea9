"""Boxes of objects: how they are written, and what they must satisfy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


TOLERANCE = 1.0
"""How many pixels a box may stand over the edge of its image: annotation tools round."""


def _from_corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _from_centres(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


BOX_FORMATS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "xywh": lambda boxes: boxes,
    "xyxy": _from_corners,
    "cxcywh": _from_centres,
}
"""How boxes are written, in pixels, and what turns them into left, top, width and height: left, top, width and height
as in COCO; left, top, right and bottom; the centre, width and height."""

WORDS = {
    "xywh": "left, top, width, height",
    "xyxy": "left, top, right, bottom",
    "cxcywh": "centre x, centre y, width, height",
}


@dataclass(frozen=True)
class Boxes:
    """The boxes of a split as its data set has them.

    Args:
        values: Objects × 4.
        images: The number of each object's image.
        sizes: The width and height of each object's image, objects × 2.
        where: The split and the data set, for messages.
    """

    values: np.ndarray
    images: np.ndarray
    sizes: np.ndarray
    where: str

    def in_pixels(self, box_format: str) -> np.ndarray:
        """Return left, top, width and height of each box, cut at the edges of its image.

        Args:
            box_format: How boxes are written, a key of `BOX_FORMATS`.

        Raises:
            ValueError: Values that are not finite; boxes in another format, which is named if it fits; boxes that
                are beside their image, or have a negative size.
        """
        if box_format not in BOX_FORMATS:
            raise ValueError(f"box_format must be one of {', '.join(BOX_FORMATS)}, got {box_format!r}.")
        if not len(self.values):
            return self.values
        is_finite = np.isfinite(self.values).all(axis=1)
        self._refuse(np.logical_not(is_finite), "is not finite; correct it, or remove the object")
        if (self.values <= 1).all() and (self.sizes > 2).all():
            raise ValueError(
                f"All boxes of {self.where} lie between 0 and 1, so they are shares of the image; boxes are read "
                "in pixels, so multiply them by its width and height."
            )
        boxes = BOX_FORMATS[box_format](self.values)
        if not self._fit(boxes).all():
            self._suggest(box_format)
        self._refuse((boxes[:, 2:] < 0).any(axis=1), f"has a negative size as {WORDS[box_format]}; correct it")
        cut = self._cut(boxes)
        beside = (cut[:, 2:] < 0).any(axis=1)
        self._refuse(beside, f"is outside its image as {WORDS[box_format]}; correct it, or remove the object")
        return cut

    def count_beyond(self, box_format: str) -> int:
        """Count the boxes that stand over the edges of their images."""
        return len(self.values) - int(self._fit(BOX_FORMATS[box_format](self.values)).sum())

    def _fit(self, boxes: np.ndarray) -> np.ndarray:
        """Tell for each box whether it lies in its image and has no negative size."""
        ends = boxes[:, :2] + boxes[:, 2:]
        inside = (boxes[:, :2] >= -TOLERANCE) & (ends <= self.sizes + TOLERANCE) & (boxes[:, 2:] >= 0)
        return inside.all(axis=1)

    def _cut(self, boxes: np.ndarray) -> np.ndarray:
        starts = np.clip(boxes[:, :2], 0, None)
        ends = np.minimum(boxes[:, :2] + boxes[:, 2:], self.sizes)
        return np.concatenate([starts, ends - starts], axis=1)

    def _suggest(self, box_format: str) -> None:
        """Name the formats in which all boxes lie in their images, if there are some.

        Raises:
            ValueError: There are some.
        """
        fitting = [name for name, convert in BOX_FORMATS.items() if self._fit(convert(self.values)).all()]
        if fitting:
            wrong = self.count_beyond(box_format)
            raise ValueError(
                f"{wrong} of {len(self.values)} boxes of {self.where} are outside their images as {WORDS[box_format]} "
                f"({box_format}), and all are inside as {' or as '.join(WORDS[name] for name in fitting)}: read them "
                f"with box_format={' or '.join(map(repr, fitting))}."
            )

    def _refuse(self, wrong: Any, problem: str) -> None:
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            size = " × ".join(f"{value:g}" for value in self.sizes[first])
            raise ValueError(
                f"{int(wrong.sum())} of {len(wrong)} boxes of {self.where} cannot be used: "
                f"{_listed(self.values[first])} in image {self.images[first]} of {size} pixels {problem}."
            )


def _listed(box: Sequence[float] | np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"
