"""Images with masks: loading, base and novel classes, and batches."""

from .classes import BACKGROUND, IGNORED, IGNORED_VALUE, labels_of_values, segmented_classes, value_names
from .collator import LABEL_SIZES, SegmentationCollator
from .image_processor import SegmentationImageProcessor
from .loading import load_segmentation_dataset
from .masks import read_mask
from .protocols import few_shot_masks, split_classes, with_classes


__all__ = [
    "BACKGROUND",
    "IGNORED",
    "IGNORED_VALUE",
    "LABEL_SIZES",
    "SegmentationCollator",
    "SegmentationImageProcessor",
    "few_shot_masks",
    "labels_of_values",
    "load_segmentation_dataset",
    "read_mask",
    "segmented_classes",
    "split_classes",
    "value_names",
    "with_classes",
]
