"""Batches of images and the objects in them."""

from __future__ import annotations

from typing import Any

import torch
from datasets.fingerprint import Hasher
from transformers import BaseImageProcessor, ProcessorMixin

from ..collator import IGNORED, ImageCollator
from ..decoding import decode


NO_OBJECT = -1
"""The label of an image without objects, as its only one: it counts, and all in it is background."""


class DetectionCollator:
    """Makes batches of images, of labels and of boxes.

    Labels are batch × most objects: categories, -100 to pad, and for an image without objects one -1 (`NO_OBJECT`).
    Boxes are batch × most objects × 4: centre, width and height, in shares of the model's input, of which a processor
    that pads, such as OWLv2's, fills a part. `crowds`, batch × most objects, are 1 for boxes of crowds, which are only
    measured with. Rows without `objects` have none of these, and rows with `image_features` need no image.

    Args:
        processor: The model's processor, or its image processor.

    Raises:
        ValueError: The processor cuts images, so that boxes would not fit; when called, an image cannot be read.
    """

    def __init__(self, processor: ProcessorMixin | BaseImageProcessor) -> None:
        self.images = ImageCollator(processor)
        self.image_processor: Any = self.images.image_processor
        if getattr(self.image_processor, "do_center_crop", False):
            raise ValueError(
                f"{type(self.image_processor).__name__} cuts images at their edges (do_center_crop), where boxes may "
                "be; load the processor with do_center_crop=False."
            )

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the pixel values."""
        return Hasher.hash((type(self).__name__, self.images.fingerprint))

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if "image_features" in examples[0]:
            batch = {"image_features": torch.stack([example["image_features"] for example in examples])}
        else:
            images = [decode(each["image"], f"number {number} of its batch") for number, each in enumerate(examples)]
            batch = self.images([{"image": image} for image in images])
        return {**batch, **self.targets(examples)} if "objects" in examples[0] else batch

    def targets(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the labels, boxes and crowds of examples, whose images are not read."""
        most = max(1, *(len(each["objects"]["category"]) for each in examples))
        labels = torch.full((len(examples), most), IGNORED)
        boxes, crowds = torch.zeros(len(examples), most, 4), torch.zeros_like(labels)
        for row, example in enumerate(examples):
            objects, count = example["objects"], len(example["objects"]["category"])
            if not count:
                labels[row, 0] = NO_OBJECT
                continue
            labels[row, :count] = torch.tensor(objects["category"])
            crowds[row, :count] = torch.tensor(objects["crowd"])
            left, top, width, height = torch.tensor(objects["bbox"]).unbind(dim=1)
            across, down = self._filled(example["width"], example["height"])
            boxes[row, :count] = torch.stack(
                [(left + width / 2) / across, (top + height / 2) / down, width / across, height / down], dim=1
            )
        return {"labels": labels, "boxes": boxes, "crowds": crowds}

    def _filled(self, width: int, height: int) -> tuple[int, int]:
        """The width and height, in an image's pixels, of what the model sees: of a square, if the image is padded."""
        return (max(width, height),) * 2 if getattr(self.image_processor, "do_pad", False) else (width, height)
