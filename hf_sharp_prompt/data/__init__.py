"""On which examples: image data sets, the published sampling protocols, and batches of them."""

from .augment import RandomResizedCropFlip
from .collator import ImageCollator
from .features import ImageFeatures
from .loading import load_image_dataset
from .protocols import base_to_novel, few_shot


__all__ = [
    "ImageCollator",
    "ImageFeatures",
    "RandomResizedCropFlip",
    "base_to_novel",
    "few_shot",
    "load_image_dataset",
]
