"""Segmentation: the class of each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image

from ..data.segmentation import SegmentationCollator
from ..drawing import colours_of, draw_masks, label_map
from ..metrics.segmentation import class_map
from .loading import LoadedAdapter
from .predictor import Predictor, Settings, Size, read_with_size


THRESHOLD = 0.5
"""The probability above which a pixel is of a class by default, where it may be of none."""

BACKGROUND_NAME = "background"


@dataclass(frozen=True)
class Segment:
    """A class, and the share of an image's pixels that are of it."""

    label: str
    share: float

    columns: ClassVar[tuple[str, ...]] = ("share",)

    def cells(self) -> tuple[str, ...]:
        return (f"{self.share:.6f}",)

    def in_words(self, width: int) -> str:
        return f"{100 * self.share:5.1f}% {self.label:{width}}"


class Segmenter(Predictor[tuple[torch.Tensor, Size], np.ndarray]):
    """Names the class of each pixel.

    The answer is height × width of the image, turned upright: the class of the largest logit, which are scaled
    bilinearly, as transformers' `post_process_semantic_segmentation` does; -1 for pixels of none of the classes, which
    a model may answer whose classes have a sigmoid each: where none is above `threshold`, by default one half.
    """

    does = "segments images"
    settings_read = frozenset({"top", "threshold", "image_size", "output_dir"})
    prediction = Segment

    def __init__(self, adapter: LoadedAdapter, settings: Settings) -> None:
        super().__init__(adapter, settings)
        prompted: Any = self.model  # PEFT forwards what a tuner has, unseen by type checkers.
        self.knows_background: bool = prompted.comparison.knows_background
        if settings.threshold is not None and not self.knows_background:
            model_class = type(self.model.get_base_model()).__name__
            raise ValueError(
                f"--threshold says which pixels are background, but {model_class} gives every pixel one of the "
                "classes; drop it."
            )
        self.lowest_logit = float(
            torch.logit(torch.tensor(THRESHOLD if settings.threshold is None else settings.threshold), eps=1e-6)
        )
        side = settings.image_size
        self.collator = SegmentationCollator(
            self.image_processor, self.class_names, size=None if side is None else (side, side)
        )

    @property
    def value_names(self) -> list[str]:
        """The names of the pixel values of a label map; background is 0, if the model knows it."""
        return [*([BACKGROUND_NAME] if self.knows_background else []), *self.class_names]

    @property
    def read(self) -> Callable[[Any], tuple[torch.Tensor, Size]]:
        return partial(read_with_size, self.collator)

    @torch.no_grad()
    def answer(self, batch: Sequence[tuple[torch.Tensor, Size]]) -> list[np.ndarray]:
        pixel_values = torch.stack([pixels for pixels, _ in batch]).to(PartialState().device)
        logits = self.model(pixel_values=pixel_values).logits - self.lowest_logit
        return [
            class_map(each, size, self.knows_background).to(torch.int32).cpu().numpy()
            for each, (_, size) in zip(logits, batch, strict=True)
        ]

    def predictions(self, answer: np.ndarray) -> list[Segment]:
        """Return the classes that have pixels, and background, the largest first."""
        values = self._values(answer)
        counts = np.bincount(values.ravel(), minlength=len(self.value_names))
        found = [Segment(name, count / values.size) for name, count in zip(self.value_names, counts) if count]
        return sorted(found, key=lambda each: each.share, reverse=True)[: self.settings.top]

    def files(self, answer: np.ndarray, image: Image.Image) -> dict[str, Image.Image]:
        """Return the image with coloured classes and a legend, and the label map."""
        values, count = self._values(answer), len(self.class_names)
        colours = [*([(0, 0, 0)] if self.knows_background else []), *colours_of(count)]
        unseen = {0} if self.knows_background else set()
        return {
            "": draw_masks(image, values, self.value_names, colours, unseen),
            "_labels": label_map(values, colours),
        }

    def labels_of_files(self) -> list[str]:
        return self.value_names

    def _values(self, answer: np.ndarray) -> np.ndarray:
        return answer + 1 if self.knows_background else answer
