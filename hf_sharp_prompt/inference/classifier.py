"""Classification of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from accelerate import PartialState

from ..data import ImageCollator
from .loading import LoadedAdapter
from .predictor import Predictor, Settings


TOP = 5
"""How many classes are named by default."""


@dataclass(frozen=True)
class ProbableClass:
    """A class and its probability."""

    label: str
    score: float

    columns: ClassVar[tuple[str, ...]] = ("score",)

    def cells(self) -> tuple[str, ...]:
        return (f"{self.score:.6f}",)

    def in_words(self, width: int) -> str:
        return f"{100 * self.score:5.1f}% {self.label:{width}}"


class Classifier(Predictor[torch.Tensor, torch.Tensor]):
    """Gives images probabilities of classes.

    An image is read as its pixel values, channels × height × width; the answer is each class's probability.
    """

    does = "classifies images"
    settings_read = frozenset({"top"})
    prediction = ProbableClass

    def __init__(self, adapter: LoadedAdapter, settings: Settings) -> None:
        super().__init__(adapter, settings)
        self.collator = ImageCollator(self.image_processor)

    @property
    def read(self) -> Callable[[Any], torch.Tensor]:
        return partial(read_pixels, self.collator)

    @torch.no_grad()
    def answer(self, batch: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        pixel_values = torch.stack(list(batch)).to(PartialState().device)
        return list(self.model(pixel_values=pixel_values).logits.float().softmax(dim=-1).cpu())

    def predictions(self, answer: torch.Tensor) -> list[ProbableClass]:
        """Return the most probable classes; of equal ones that which comes first."""
        found = map(ProbableClass, self.class_names, answer.tolist())
        ranked = sorted(found, key=lambda each: each.score, reverse=True)  # Sorting keeps the order of equals.
        return ranked[: self.settings.top or TOP]


def read_pixels(collator: ImageCollator, image: Any) -> torch.Tensor:
    """Return an image's pixel values, channels × height × width."""
    return collator([{"image": image}])["pixel_values"][0]
