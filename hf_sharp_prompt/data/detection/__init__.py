"""Data of object detection: images, and the boxes and categories of the objects in them."""

from .boxes import BOX_FORMATS
from .categories import base_and_novel_categories, few_shot_objects, only_categories
from .collator import DetectionCollator
from .loading import load_detection_dataset
from .rows import category_names


__all__ = [
    "BOX_FORMATS",
    "DetectionCollator",
    "base_and_novel_categories",
    "category_names",
    "few_shot_objects",
    "load_detection_dataset",
    "only_categories",
]
