"""On which examples: image data sets, the published sampling protocols, and batches of them."""

from .augment import RandomResizedCropFlip
from .collator import ImageCollator
from .features import ImageFeatures
from .fingerprint import fingerprint
from .loading import load_image_dataset
from .long_tail import class_counts, exponential_counts, labels_of, pareto_counts, subsample, tail_classes
from .protocols import base_to_novel, few_shot
from .samplers import ClassFrequencySampler


__all__ = [
    "ClassFrequencySampler",
    "ImageCollator",
    "ImageFeatures",
    "RandomResizedCropFlip",
    "base_to_novel",
    "class_counts",
    "exponential_counts",
    "few_shot",
    "fingerprint",
    "labels_of",
    "load_image_dataset",
    "pareto_counts",
    "subsample",
    "tail_classes",
]
