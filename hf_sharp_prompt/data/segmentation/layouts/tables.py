from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, List
from datasets import Image as ImageFeature
from PIL import Image

from ....compat.datasets import replace_column
from ....demo import SCENE_TASKS, load_scene_task
from ... import catalogue
from ...layouts.hub import Hub
from ...layouts.saved import Saved
from ..classes import CLASSES, IGNORED_VALUE
from .layout import MaskLayout, Masks


logger = logging.getLogger(__name__)

STORED = ImageFeature(decode=False)


class DemoScenes(MaskLayout):
    """Scenes of the embedded demo, by their task's name.

    Every object in them is of a class, so where there is none, and the demo's mask is 255, is background.
    """

    description = "scenes of the embedded demo"

    def recognises(self, source: str) -> bool:
        return source in SCENE_TASKS

    def read(self, source: str) -> Masks:
        if Path(source).exists():
            logger.warning(f"{source} is taken as the demo's task; for the folder of that name give ./{source}.")
        names = [*SCENE_TASKS[source].classes, "background"]
        splits = load_scene_task(source).select_columns(["image", "mask"]).cast_column("mask", STORED)
        for name, split in splits.items():
            masks = [_name_background(mask, len(names) - 1) for mask in split[:]["mask"]]
            splits[name] = replace_column(split, "mask", masks, STORED)
        return Masks(splits, names)


def _name_background(mask: dict[str, Any], value: int) -> dict[str, Any]:
    values = np.array(Image.open(io.BytesIO(mask["bytes"])))
    values[values == IGNORED_VALUE] = value
    encoded = io.BytesIO()
    Image.fromarray(values).save(encoded, format="png", compress_level=1)
    return {"bytes": encoded.getvalue(), "path": None}


class HubOrSaved(MaskLayout):
    """A data set with a column of images and one of masks: on the Hub by its id, or saved with `save_to_disk`."""

    description = "a data set saved with save_to_disk, or the id of one on the Hub, with a column of masks"

    def recognises(self, source: str) -> bool:
        return Saved().recognises(source) or Hub().recognises(source)

    def read(self, source: str) -> Masks:
        layout = Saved() if Saved().recognises(source) else Hub()
        data = layout.read(catalogue.find(source))
        splits = DatasetDict(train=data) if isinstance(data, Dataset) else data
        return Masks(splits, _find_names(splits[next(iter(splits))].features))


def _find_names(features: Any) -> list[str] | None:
    """Find the names of the pixel values: those of `classes`, or of the categories of `objects`."""
    objects = features.get("objects")
    category = objects.get("category") if isinstance(objects, dict) else getattr(objects, "feature", None)
    if isinstance(category, dict):
        category = category.get("category")
    for feature in (features.get(CLASSES), category):
        named = feature.feature if isinstance(feature, List) else feature
        if isinstance(named, ClassLabel):
            return list(named.names)
    return None
