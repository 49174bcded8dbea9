"""Detection: boxes around objects of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from PIL import Image

from ..data.detection import DetectionCollator
from ..drawing import colours_of, draw_boxes
from ..metrics.detection import suppress_overlaps
from .loading import LoadedAdapter
from .predictor import Predictor, Settings, Size, read_with_size


THRESHOLD = 0.1
"""The score above which an object counts by default, as in transformers."""


@dataclass(frozen=True)
class FoundObject:
    """An object, its class's score, and its box: left, top, right and bottom in pixels of the image."""

    label: str
    score: float
    box: tuple[float, float, float, float]

    columns: ClassVar[tuple[str, ...]] = ("score", "xmin", "ymin", "xmax", "ymax")

    def cells(self) -> tuple[str, ...]:
        return (f"{self.score:.6f}", *(f"{each:.2f}" for each in self.box))

    def in_words(self, width: int) -> str:
        return f"{100 * self.score:5.1f}% {self.label} [{', '.join(f'{each:.0f}' for each in self.box)}]"


class Detector(Predictor[tuple[torch.Tensor, Size], list[FoundObject]]):
    """Finds objects of classes.

    Scores and boxes are those of transformers' own `post_process_object_detection`: each patch has one box and the
    class of its highest score. Boxes are in pixels of the image, turned upright; they may reach beyond its edges. With
    `nms`, overlapping boxes of a class are dropped, which transformers does not do.
    """

    does = "finds objects"
    settings_read = frozenset({"top", "threshold", "nms", "output_dir"})
    prediction = FoundObject

    def __init__(self, adapter: LoadedAdapter, settings: Settings) -> None:
        super().__init__(adapter, settings)
        self.collator = DetectionCollator(self.image_processor)

    @property
    def read(self) -> Callable[[Any], tuple[torch.Tensor, Size]]:
        return partial(read_with_size, self.collator)

    @torch.no_grad()
    def answer(self, batch: Sequence[tuple[torch.Tensor, Size]]) -> list[list[FoundObject]]:
        pixel_values = torch.stack([pixels for pixels, _ in batch]).to(PartialState().device)
        threshold = THRESHOLD if self.settings.threshold is None else self.settings.threshold
        found = self.image_processor.post_process_object_detection(
            self.model(pixel_values=pixel_values), threshold, [size for _, size in batch]
        )
        return [self._objects(each["scores"].cpu(), each["labels"].cpu(), each["boxes"].cpu()) for each in found]

    def _objects(self, scores: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor) -> list[FoundObject]:
        order = scores.argsort(descending=True, stable=True)
        if self.settings.nms is not None:
            order = order[suppress_overlaps(boxes[order], labels[order], self.settings.nms)]
        return [
            FoundObject(self.class_names[labels[place]], scores[place].item(), tuple(boxes[place].tolist()))
            for place in order[: self.settings.top]
        ]

    def predictions(self, answer: list[FoundObject]) -> list[FoundObject]:
        return answer

    def files(self, answer: list[FoundObject], image: Image.Image) -> dict[str, Image.Image]:
        """Return the image with the boxes, their classes and scores."""
        colours = dict(zip(self.class_names, colours_of(len(self.class_names)), strict=True))
        drawn = [(each.box, f"{each.label} {100 * each.score:.0f}%", colours[each.label]) for each in reversed(answer)]
        return {"": draw_boxes(image, drawn)}
