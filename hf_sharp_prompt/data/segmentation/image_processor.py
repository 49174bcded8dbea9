"""What transformers' image-segmentation pipeline needs of an image processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate
from transformers import BaseImageProcessor, BatchFeature, ProcessorMixin

from ..decoding import decode
from .collator import SegmentationCollator


class SegmentationImageProcessor:
    """Makes whole images into a model's inputs, and its logits into label maps, for transformers' own code.

    The image processors of CLIPSeg and CLIP have no `post_process_semantic_segmentation`, so that
    `pipeline("image-segmentation")` refuses their models (transformers 5.24), and CLIP's cuts the edges off. With this
    one the pipeline works; it still logs that it does not know the model's class, which has no effect. It names the
    classes that `model.set_classes` set.

    Args:
        processor: The model's processor or image processor.
        background: True if pixels whose logits are all below 0 are none of the classes, as with CLIPSeg's sigmoids;
            the pipeline calls them `background`.
        size: Height and width of the model's input; by default the processor's.

    Example:
        ```py
        >>> segment = pipeline(
        ...     "image-segmentation",
        ...     model=model.get_base_model(),
        ...     image_processor=SegmentationImageProcessor(image_processor, background=True),
        ... )
        >>> segment(image)
        ```
    """

    def __init__(
        self,
        processor: ProcessorMixin | BaseImageProcessor,
        background: bool = False,
        size: tuple[int, int] | None = None,
    ) -> None:
        # Pixel values do not depend on classes, of which a collator wants to know.
        self.collator, self.background = SegmentationCollator(processor, ["a class"], size=size), background

    def __call__(self, images: Any, return_tensors: str = "pt", **_: Any) -> BatchFeature:
        """Return `pixel_values` of an image or a list of images, in any form that [`decode`] takes."""
        images = images if isinstance(images, list | tuple) else [images]
        rows = [{"image": decode(image, f"number {number}")} for number, image in enumerate(images)]
        return BatchFeature(dict(self.collator(rows)), tensor_type=return_tensors)

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Return the class of each pixel.

        Args:
            outputs: What the model answered; its `logits` are images × classes × height × width.
            target_sizes: The height and width of each image, to which logits are scaled bilinearly; by default as they
                are.

        Returns:
            For each image height × width, places in the list of classes; with `background` the number of classes where
            there is none of them.

        Raises:
            ValueError: There are not as many sizes as images.
        """
        logits = outputs.logits.float()
        sizes = [tuple(logits.shape[-2:])] * len(logits) if target_sizes is None else list(target_sizes)
        if len(sizes) != len(logits):
            raise ValueError(f"There are {len(logits)} images and {len(sizes)} target_sizes; give one for each image.")
        maps = []
        for each, size in zip(logits, sizes, strict=True):
            height_and_width = [int(side) for side in size]
            scaled = interpolate(each[None], height_and_width, mode="bilinear", align_corners=False)[0]
            largest, labels = scaled.max(dim=0)
            maps.append(labels.masked_fill(largest < 0, len(each)) if self.background else labels)
        return maps
