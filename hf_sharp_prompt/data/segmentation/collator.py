"""Batches of images and masks for segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets.fingerprint import Hasher
from PIL import Image
from transformers import BaseImageProcessor, ProcessorMixin

from ..decoding import decode
from .classes import BACKGROUND, IGNORED, IGNORED_VALUE, labels_of_values
from .masks import check_sizes, read_mask


LABEL_SIZES = "label_sizes"
"""The name of the masks' own sizes in a batch."""

FEATURES = "image_features"


class SegmentationCollator:
    """Turns examples with an image and a mask into a batch of `pixel_values` and `labels`.

    The whole image is scaled to the processor's size, height and width each for itself. There is no centre crop, which
    would lose pixels of the truth, whatever the processor's configuration says. In training the masks are scaled in
    the same way, each pixel taking the label of the nearest. To measure, they keep their own size.

    Args:
        processor: The model's processor or image processor.
        names: The name of each pixel value, from `value_names(data)`.
        classes: The names of the classes that the model compares with, by label. By default all of `names` but
            `background` and `unlabelled`. Pixels of other classes are ignored.
        background: The label of pixels named `background`: `BACKGROUND` (-1), so that they count as none of the
            classes, or `IGNORED` (-100), for models that cannot answer "none of them", such as dense CLIP.
        own_sizes: Keep the masks' own sizes, to measure. They are padded with -100 to the largest of the batch, and
            `label_sizes` has the size of each.
        size: Height and width of `pixel_values`, for instance larger ones than the model was trained with. By default
            the processor's crop or size.
        ignored_value: The pixel value that is ignored.

    Returns:
        When called with a list of examples: `pixel_values`, images × channels × height × width, or `image_features`
        of examples that have these instead of an image; and, if they have a `mask`, `labels`, images × height × width,
        -100 where ignored; with `own_sizes` also `label_sizes`, images × 2, height and width.

    Raises:
        ValueError: A class that no pixel value has. When called: an image or mask that cannot be read, of which the
            path is named; a mask of another size than its image; a pixel value without a name.
    """

    def __init__(
        self,
        processor: ProcessorMixin | BaseImageProcessor,
        names: Sequence[str],
        classes: Sequence[str] | None = None,
        background: int = BACKGROUND,
        own_sizes: bool = False,
        size: tuple[int, int] | None = None,
        ignored_value: int = IGNORED_VALUE,
    ) -> None:
        self.image_processor: Any = getattr(processor, "image_processor", processor)
        self.names = list(names)
        self.labels_of_values = labels_of_values(names, classes, background, ignored_value)
        self.own_sizes, self.ignored_value = own_sizes, ignored_value
        self.size = size or size_of(self.image_processor)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the pixel values: the processor's class and configuration, and the size."""
        processor = self.image_processor
        return Hasher.hash((type(processor).__name__, processor.to_dict(), self.size))

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images: list[Image.Image] | list[None] = [None] * len(examples)
        if FEATURES in examples[0]:
            batch = {FEATURES: torch.stack([example[FEATURES] for example in examples])}
        else:
            images = [
                decode(_cell(example, "image"), f"number {i} of its batch") for i, example in enumerate(examples)
            ]
            batch = {"pixel_values": self._pixel_values(images)}
        if "mask" not in examples[0]:
            return batch
        labels = [self._labels(example, image, i) for i, (example, image) in enumerate(zip(examples, images))]
        if not self.own_sizes:
            batch["labels"] = torch.stack([_nearest(each, self.size) for each in labels])
            return batch
        batch[LABEL_SIZES] = torch.tensor([each.shape for each in labels])
        largest = batch[LABEL_SIZES].amax(dim=0).tolist()
        batch["labels"] = torch.full((len(labels), *largest), IGNORED)
        for place, each in zip(batch["labels"], labels):
            place[: each.shape[0], : each.shape[1]] = each
        return batch

    def _pixel_values(self, images: list[Image.Image]) -> torch.Tensor:
        height, width = self.size
        size = {"height": height, "width": width}
        return self.image_processor(images, return_tensors="pt", do_center_crop=False, size=size)["pixel_values"]

    def _labels(self, example: Mapping[str, Any], image: Image.Image | None, number: int) -> torch.Tensor:
        mask = _cell(example, "mask")
        values = read_mask(mask, f"number {number} of its batch")
        which = _name_of(mask, number)
        if image is not None:
            check_sizes(values.shape, (image.height, image.width), which)
        check_values(np.unique(values).tolist(), self.names, self.ignored_value, which)
        return torch.from_numpy(self.labels_of_values[values])


def size_of(image_processor: Any) -> tuple[int, int]:
    """Return the height and width of the images that a processor makes.

    Raises:
        ValueError: Its configuration does not say them.
    """
    size = getattr(image_processor, "size", None) or {}
    if getattr(image_processor, "do_center_crop", False):
        size = getattr(image_processor, "crop_size", None) or size
    height, width = size.get("height"), size.get("width")
    if height is None or width is None:
        height = width = size.get("shortest_edge")
    if height is None or width is None:
        raise ValueError(
            f"The configuration of {type(image_processor).__name__} names no height and width; give the collator "
            "size=(height, width)."
        )
    return int(height), int(width)


def check_values(values: Sequence[int], names: Sequence[str], ignored_value: int, which: str) -> None:
    """Check that every pixel value of a mask has a name, or is ignored.

    Raises:
        ValueError: One has none; it is named.
    """
    if beyond := [value for value in values if value >= len(names) and value != ignored_value]:
        raise ValueError(
            f"The mask of {which} has the pixel value {beyond[0]}, but there are {len(names)} names, of the values 0 "
            f"to {len(names) - 1}, and {ignored_value} is ignored; name it in class_names, or set ignored_value."
        )


def _nearest(labels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Scale labels; each pixel takes the label at its centre."""
    rows, columns = (
        ((torch.arange(new) + 0.5) * old / new).long().clamp(max=old - 1) for new, old in zip(size, labels.shape)
    )
    return labels[rows][:, columns]


def _cell(example: Mapping[str, Any], column: str) -> Any:
    if example.get(column) is None:
        raise ValueError(
            f"An example of a batch has no {column}; give examples with the columns image and mask, as "
            "load_segmentation_dataset returns them."
        )
    return example[column]


def _name_of(mask: Any, number: int) -> str:
    path = mask.get("path") if isinstance(mask, dict) else getattr(mask, "filename", None)
    return str(path or f"number {number} of its batch")
