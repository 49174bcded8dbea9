"""Image data sets, the published sampling protocols, and batches."""

from . import catalogue, layouts
from .augment import RandomResizedCropFlip
from .auto_augment import CIFARAutoAugment
from .bad_images import SkippedImage
from .cifar import CIFAR_MEAN, CIFAR_STD, CIFARAugmentation, ResizeCenterCrop
from .collator import ImageCollator
from .features.dataset import ImageFeatures
from .features.rows import EncodedRows, encode_rows
from .fingerprint import fingerprint
from .labels import class_counts, labels_of
from .loading import canonical_name, find_facts, load_image_dataset, template_of
from .long_tail import exponential_counts, pareto_counts, subsample, tail_classes
from .protocols import base_to_novel, few_shot, only_classes
from .samplers import ClassFrequencySampler


__all__ = [
    "CIFAR_MEAN",
    "CIFAR_STD",
    "CIFARAugmentation",
    "CIFARAutoAugment",
    "ClassFrequencySampler",
    "EncodedRows",
    "ImageCollator",
    "ImageFeatures",
    "RandomResizedCropFlip",
    "ResizeCenterCrop",
    "SkippedImage",
    "base_to_novel",
    "canonical_name",
    "catalogue",
    "class_counts",
    "encode_rows",
    "exponential_counts",
    "few_shot",
    "find_facts",
    "fingerprint",
    "labels_of",
    "layouts",
    "load_image_dataset",
    "only_classes",
    "pareto_counts",
    "subsample",
    "tail_classes",
    "template_of",
]
