from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets.fingerprint import Hasher
from PIL import Image
from transformers import BaseImageProcessor, ProcessorMixin, default_data_collator

from .columns import describe, find_image_column, find_label_column, is_model_input
from .decoding import decode
from .labels import is_whole


logger = logging.getLogger(__name__)

IGNORED = -100
"""The label of samples that torch's losses leave out."""

LONGEST = 32
"""How many times its shorter side an image's longer side is where a processor keeps the centre; its crop is square."""


class ImageCollator:
    """Turns examples with an image and a label into a batch of `pixel_values` and `labels`.

    Examples with `pixel_values` or `image_features`, or without an image, are model inputs already: they are stacked
    as they are, and no image is read.

    Of images more than 32 times longer than wide, a processor that crops the centre gets the middle part, which holds
    the crop; to scale the whole would fill the memory.

    Args:
        processor: The model's processor or image processor.
        augment: Applied to every image before the processor, e.g. [`RandomResizedCropFlip`].
        image_column: The column of the images. By default `image`, or else the only one that holds pictures or has
            another usual name, such as `img`.
        label_column: The column of the labels. By default `label` or `labels`, or else the only one whose name ends in
            `_label`, such as `fine_label`.

    Returns:
        When called with a list of examples, dictionaries: `pixel_values`, images × channels × height × width, and,
        if there is a column of labels, `labels`, images; labels that are lists of numbers (soft ones) make a matrix.

    Raises:
        ValueError: When called: several columns may be the image or the label; an image cannot be decoded (its path
            is named); a label is missing or no number.
    """

    def __init__(
        self,
        processor: ProcessorMixin | BaseImageProcessor,
        augment: Callable[[Image.Image], Image.Image] | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self.image_processor = getattr(processor, "image_processor", processor)
        self.augment = augment
        self.image_column = image_column
        self.label_column = label_column
        self._warned_of_missing_labels = False

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the pixel values: the processor's class and configuration, the augmentation."""
        processor = self.image_processor
        # The class counts: Pillow's and torchvision's processors resize differently.
        return Hasher.hash((type(processor).__name__, processor.to_dict(), self.augment))

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        first = examples[0]
        if not isinstance(first, Mapping):
            raise ValueError(
                f"Examples must be dictionaries with an image and a label, but the first is a {type(first).__name__}; "
                'return {"image": image, "label": label} from the data set.'
            )
        label_column = self.label_column or find_label_column(first)
        image_column = self.image_column or find_image_column(first)
        if is_model_input(first) or image_column is None:
            batch = _stack(examples, {image_column, label_column})
        else:
            batch = {"pixel_values": self._pixel_values(_column(examples, image_column))}
            if label_column is None:
                self._warn_of_missing_labels(first, image_column)
        if label_column is not None:
            batch["labels"] = _labels(_column(examples, label_column), label_column)
        return batch

    def _pixel_values(self, images: list[Any]) -> torch.Tensor:
        images = [decode(image, f"number {number} of its batch") for number, image in enumerate(images)]
        if self.augment is not None:
            images = [self.augment(image) for image in images]
        if _keeps_the_centre(self.image_processor):
            images = [_without_far_ends(image) for image in images]
        return self.image_processor(images, return_tensors="pt")["pixel_values"]

    def _warn_of_missing_labels(self, example: Mapping[str, Any], image_column: str) -> None:
        others = {name: value for name, value in example.items() if name != image_column}
        if others and not self._warned_of_missing_labels:
            logger.warning(
                f"None of the columns besides {image_column} is known as the label: {describe(others)}. Batches have "
                "no labels, so there is no loss and no metric; rename the column to 'label', or give "
                "ImageCollator(processor, label_column=…) as data_collator."
            )
            self._warned_of_missing_labels = True


def _keeps_the_centre(processor: Any) -> bool:
    """Tell whether a processor scales the shorter side to a fixed length and crops the centre, as CLIP's does."""
    size = getattr(processor, "size", None) or {}
    return bool(getattr(processor, "do_center_crop", False) and size.get("shortest_edge"))


def _without_far_ends(image: Image.Image) -> Image.Image:
    """Crop an image that is much longer than wide to its middle part.

    The processor scales the whole image before it crops the centre: 1 × 5,000 pixels would become 224 × 1,120,000.
    """
    shorter, longer = sorted(image.size)
    if longer <= LONGEST * shorter:
        return image
    cut = (longer - LONGEST * shorter) // 2  # at each end, so that the centre stays
    horizontal, vertical = (cut, 0) if image.width == longer else (0, cut)
    return image.crop((horizontal, vertical, image.width - horizontal, image.height - vertical))


def _column(examples: list[dict[str, Any]], name: str) -> list[Any]:
    if without := [number for number, example in enumerate(examples) if name not in example]:
        columns = describe(examples[without[0]])
        raise ValueError(f"Example {without[0]} of a batch has no column {name!r}; its columns are {columns}.")
    return [example[name] for example in examples]


def _stack(examples: list[dict[str, Any]], left_out: set[str | None]) -> dict[str, torch.Tensor]:
    return default_data_collator(
        [{name: value for name, value in each.items() if name not in left_out} for each in examples]
    )


def _labels(labels: list[Any], column: str) -> torch.Tensor:
    numbers = [label.item() if getattr(label, "shape", None) == () else label for label in labels]
    if all(
        isinstance(label, Sequence | np.ndarray | torch.Tensor) and not isinstance(label, str) for label in numbers
    ):
        return torch.stack([torch.as_tensor(label) for label in numbers])  # soft labels: the share of each class
    for label in numbers:
        if label is None or (is_whole(label) and label < 0 and label != IGNORED):
            raise ValueError(
                f"A label in column {column!r} is {label}, which means that it is missing; leave such samples "
                "out, or remove the column to predict without labels."
            )
        if not is_whole(label):
            raise ValueError(
                f"A label in column {column!r} is {label!r}, but the model takes the numbers of its classes; load the "
                f"data with load_image_dataset, or cast them: dataset.cast_column({column!r}, "
                "ClassLabel(names=class_names)), the names in the model's order."
            )
    return torch.tensor(numbers, dtype=torch.long)
