from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import torch
from datasets.fingerprint import Hasher
from PIL import Image
from transformers import BaseImageProcessor, ProcessorMixin, default_data_collator


class ImageCollator:
    """Turns examples with an `image` and a `label` into a batch of `pixel_values` and `labels`.

    Examples without an `image` are model inputs already and are stacked as they are.

    Args:
        processor: The model's processor or image processor.
        augment: Applied to every image before the processor, e.g. [`RandomResizedCropFlip`].

    Raises:
        ValueError: When called with an image that cannot be decoded; its path is named.
    """

    def __init__(
        self,
        processor: ProcessorMixin | BaseImageProcessor,
        augment: Callable[[Image.Image], Image.Image] | None = None,
    ) -> None:
        self.image_processor = getattr(processor, "image_processor", processor)
        self.augment = augment

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the pixel values: the processor's class and configuration, the augmentation."""
        processor = self.image_processor  # of which there is one class for Pillow and one for torchvision
        return Hasher.hash((type(processor).__name__, processor.to_dict(), self.augment))

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if "image" not in examples[0]:
            return default_data_collator(examples)
        images = [_decode(example["image"]) for example in examples]
        if self.augment is not None:
            images = [self.augment(image) for image in images]
        batch = {"pixel_values": self.image_processor(images, return_tensors="pt")["pixel_values"]}
        if "label" in examples[0]:
            batch["labels"] = torch.tensor([example["label"] for example in examples])
        return batch


def _decode(image: Image.Image | dict[str, Any]) -> Image.Image:
    if isinstance(image, dict):
        try:
            image = datasets.Image().decode_example(image)
            image.load()
        except Exception as error:
            raise ValueError(
                f"The image {image['path'] or '(given as bytes)'} cannot be decoded ({error}); repair or remove it."
            ) from error
    return image.convert("RGB")
