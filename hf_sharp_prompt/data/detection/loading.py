"""Load the detection data that a user names, as splits in one form."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, DatasetDict
from PIL import ExifTags, Image

from ...demo import SCENE_TASKS, load_scene_task
from .. import catalogue, layouts
from ..bad_images import check_are_there
from ..columns import find_image_column, require_column
from ..labels import shortened
from ..splits import with_test_split, with_usual_names
from .boxes import Boxes
from .coco import find_annotations, read_rows
from .naming import (
    CATEGORY_COLUMNS,
    ClassNames,
    fields_of_objects,
    find_field,
    name_categories,
    number_categories,
    rename,
)
from .rows import Row, features_of, objects_of


logger = logging.getLogger(__name__)

BOX_COLUMNS = ("bbox", "bboxes", "box", "boxes")
CROWD_COLUMNS = ("crowd", "iscrowd", "is_crowd")

TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


def load_detection_dataset(
    dataset: str,
    box_format: str = "xywh",
    class_names: ClassNames | None = None,
    needs_test_split: bool = True,
) -> DatasetDict:
    """Load images, and the boxes and categories of their objects.

    Args:
        dataset: A scene task of the embedded demo; a folder in COCO's layout, which has images and
            `annotations/instances_*.json` or `train/_annotations.coco.json`; a folder of images with a
            `metadata.jsonl` that has `objects`; a data set that `save_to_disk` saved, or its id on the Hub, with a
            column `objects`.
        box_format: How boxes are written, in pixels: `"xywh"`, left, top, width, height, as in COCO; `"xyxy"`, left,
            top, right, bottom; `"cxcywh"`, the centre, width and height.
        class_names: The names of the categories where the data has numbers: a list, or a dictionary from number to
            name. It also renames.
        needs_test_split: Whether a test split is made where there is none: of the validation split, or else of 30 % of
            the training images.

    Returns:
        Splits with the columns `image`, not decoded, `width`, `height`, and `objects`: `bbox` (left, top, width and
        height in pixels), `category` (a `ClassLabel`) and `crowd`. Boxes are cut at the edges of their images, and
        those without area are left out; a warning counts both. Images without objects stay.

    Raises:
        ValueError: No such data; no column of objects; boxes that are not finite, negative, outside their images or in
            another format, which is named; boxes and categories that are not as many; categories without names, of
            repeated names, or beyond them; images that are missing.
    """
    rows, names = _read(dataset, class_names)
    splits = DatasetDict(
        {split: _standard(each, names, f"the {split} split of {dataset}", box_format) for split, each in rows.items()}
    )
    check_are_there(splits, dataset)
    used = {label for split in splits.values() for each in objects_of(split) for label in each["category"]}
    if unused := [name for label, name in enumerate(names) if label not in used]:
        logger.warning(
            f"{len(unused)} of {len(names)} categories of {dataset} have no objects, and no part in any mean: "
            f"{shortened(unused)}."
        )
    return with_test_split(splits, dataset) if needs_test_split else splits


def _read(dataset: str, class_names: ClassNames | None) -> tuple[dict[str, list[Row]], list[str]]:
    """Read the rows of each split, with their objects' labels, and the names of the categories."""
    path = Path(dataset).expanduser()
    if dataset not in SCENE_TASKS and path.is_dir() and (annotations := find_annotations(path)):
        return _read_coco(dataset, path, annotations, class_names)
    if dataset in SCENE_TASKS:
        data: Dataset | DatasetDict = load_scene_task(dataset)
    else:
        entry = catalogue.find(dataset)
        data = layouts.find(entry.source).read(entry)
    splits = with_usual_names(data, {}, dataset)
    rows = {name: _rows(split, f"the {name} split of {dataset}") for name, split in splits.items()}
    written, names = name_categories(splits, rows, class_names, dataset)
    for split, each in rows.items():
        number_categories(each, written, f"the {split} split of {dataset}")
    return rows, names


def _read_coco(
    dataset: str, path: Path, annotations: Mapping[str, Path], class_names: ClassNames | None
) -> tuple[dict[str, list[Row]], list[str]]:
    read = {split: read_rows(file, path) for split, file in annotations.items()}
    names = {split: each for split, (_, each) in read.items()}
    first, *others = names
    if differing := [split for split in others if names[split] != names[first]]:
        raise ValueError(
            f"The {differing[0]} split of {dataset} has other categories than the {first} split; give both the same "
            "list of categories."
        )
    rows = {split: rows for split, (rows, _) in read.items()}
    with_usual_names(DatasetDict(dict.fromkeys(rows)), {}, dataset)
    return rows, rename(names[first], class_names, dataset)


def _rows(split: Dataset, where: str) -> list[Row]:
    fields = fields_of_objects(split, where)
    boxes, categories = find_field(fields, BOX_COLUMNS, where), find_field(fields, CATEGORY_COLUMNS, where)
    crowds = next((name for name in CROWD_COLUMNS if name in fields), None)
    image_column = require_column(find_image_column, "image", split.features, where)
    rows = []
    for row in split.cast_column(image_column, datasets.Image(decode=False)).with_format(None):
        objects = {"bbox": _values(row["objects"], boxes), "category": _values(row["objects"], categories)}
        crowd = [bool(each) for each in _values(row["objects"], crowds)] if crowds else [False] * len(objects["bbox"])
        image = {"image": row[image_column], "width": None, "height": None}
        rows.append({**image, "objects": {**objects, "crowd": crowd}})
    return rows


def _values(objects: Any, field: str) -> list[Any]:
    if isinstance(objects, dict):
        return list(objects[field] or ())
    return [each[field] for each in objects or ()]


def _standard(rows: list[Row], names: Sequence[str], where: str, box_format: str) -> Dataset:
    """Make the data set of rows, with boxes checked and in pixels."""
    if not rows:
        raise ValueError(f"There are no images in {where}; leave the split out, or add images.")
    for image, row in enumerate(rows):
        _check_boxes(row["objects"], f"image {image} of {where}", box_format)
        if row["width"] is None or row["height"] is None:
            row["width"], row["height"] = _size_of(row["image"], f"{image} of {where}")
    counts = [len(row["objects"]["bbox"]) for row in rows]
    values = np.array([box for row in rows for box in row["objects"]["bbox"]], dtype=np.float64).reshape(-1, 4)
    sizes = np.array([[row["width"], row["height"]] for row in rows], dtype=np.float64)
    boxes = Boxes(values, np.arange(len(rows)).repeat(counts), sizes.repeat(counts, axis=0), where)
    in_pixels = boxes.in_pixels(box_format)
    if beyond := boxes.count_beyond(box_format):
        logger.warning(f"{beyond} of {len(values)} boxes of {where} stand over the edges of their images and are cut.")
    has_area = np.minimum(in_pixels[:, 2], in_pixels[:, 3]) > 0
    if without := int(np.logical_not(has_area).sum()):
        logger.warning(f"{without} of {len(values)} boxes of {where} have no area and are left out.")
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in ("image", "width", "height")}
    ends = np.cumsum(counts)
    columns["objects"] = [
        {
            "bbox": in_pixels[end - count : end][kept].tolist(),
            **{field: [row["objects"][field][place] for place in kept] for field in ("category", "crowd")},
        }
        for row, count, end in zip(rows, counts, ends, strict=True)
        for kept in [np.flatnonzero(has_area[end - count : end])]
    ]
    return Dataset.from_dict(columns, features=features_of(names))


def _check_boxes(objects: dict[str, list[Any]], where: str, box_format: str) -> None:
    boxes, categories = objects["bbox"], objects["category"]
    if len(boxes) != len(categories):
        raise ValueError(
            f"There are {len(boxes)} boxes and {len(categories)} categories in {where}; give each object both."
        )
    for box in boxes:
        if (
            not isinstance(box, list | tuple)
            or len(box) != 4
            or not all(isinstance(each, int | float) for each in box)
        ):
            raise ValueError(f"The box {box!r} in {where} is not four numbers; give {box_format} in pixels.")


def _size_of(image: Any, which: str) -> tuple[int, int]:
    """Return the width and height of an image as it is decoded, from the beginning of its file."""
    if image is None:
        raise ValueError(f"Image {which} is missing (None); remove its row.")
    image = {"path": image, "bytes": None} if isinstance(image, str) else image
    try:
        with Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as opened:
            width, height = opened.size
            turned = opened.getexif().get(ExifTags.Base.Orientation) in TURNED
    except Exception as error:
        raise ValueError(f"Image {which} cannot be read ({error}); repair or remove it.") from error
    return (height, width) if turned else (width, height)
