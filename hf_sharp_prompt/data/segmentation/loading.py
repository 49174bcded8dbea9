"""Load images with masks, as splits with the columns `image`, `mask` and `classes`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL
from datasets import Dataset, DatasetDict
from datasets.utils import tqdm
from datasets.utils.file_utils import is_local_path

from ... import progress
from ...class_names import read_class_names
from ...compat.datasets import replace_column
from ..bad_images import check_are_there
from ..class_names import choose_names, in_words
from ..columns import describe, find_image_column
from ..file_cache import FileCache
from ..labels import shortened
from ..loading import check_images_are_apart
from ..splits import with_test_split, with_usual_names
from . import layouts
from .classes import CLASSES, IGNORED_VALUE, classes_feature, is_class
from .collator import check_values
from .masks import check_sizes, read_mask, size_of_image


logger = logging.getLogger(__name__)

MASK_COLUMNS = (
    *("mask", "masks", "annotation", "annotations", "label", "labels", "segmentation", "segmentation_mask"),
    *("semantic_mask", "seg_mask", "label_mask", "gt", "pixel_label"),
)
"""Usual names of columns of masks."""


def load_segmentation_dataset(
    dataset: str,
    image_column: str | None = None,
    mask_column: str | None = None,
    class_names: Sequence[str] | str | Path | None = None,
    ignored_value: int = IGNORED_VALUE,
    needs_test_split: bool = True,
) -> DatasetDict:
    """Load images and their masks for segmentation.

    Every mask is read once, so that what is wrong is said now. What is found out about mask files is kept until they
    change.

    Args:
        dataset: A task of the embedded demo's scenes; a folder as of Pascal VOC (`JPEGImages`, `SegmentationClass`,
            `ImageSets/Segmentation`) or ADE20K (`images/training`, `annotations/training`, `objectInfo150.txt`); a
            folder with a folder `images` and a folder `masks`, in a folder per split or without; a data set that
            `save_to_disk` saved; a data set's id on the Hub; or what a layout that was added recognises.
        image_column: The column of the images. By default it is found as for classification.
        mask_column: The column of the masks. By default the only one with a usual name, such as `mask`, `annotation`
            or `label`, that holds pictures.
        class_names: The name of each pixel value, as a list or in a file. `background` names pixels that show none of
            the classes, `unlabelled` those that do not count. By default the layout's, a file `classes.txt` in the
            folder, or the names in the features of the Hub's data set.
        ignored_value: The pixel value that does not count.
        needs_test_split: Whether a test split is made where there is none: the validation split, or 30 % of the
            training split.

    Returns:
        Splits `train`, `test` and perhaps `validation`, each with `image` and `mask`, which are not yet decoded, and
        `classes`: the classes that the mask shows, a list of a `ClassLabel` whose names are those of the pixel values.
        Images whose mask has only ignored pixels are left out, and a warning counts them; those of background alone
        stay.

    Raises:
        ValueError: No such data set; no column of images or masks, or several; no names; names that are empty,
            repeated, codes, or fewer than two; a mask that cannot be read, is in colours, has a pixel value without a
            name, or another size than its image; masks of black and white alone; images in two splits.
    """
    found = layouts.find(dataset).read(dataset)
    splits = with_usual_names(found.splits, {}, dataset)
    splits = _with_usual_columns(splits, image_column, mask_column, dataset)
    names = _choose_names(found.names, class_names, dataset)
    check_images_are_apart(splits, dataset)
    check_are_there(splits, dataset)
    _check_masks_are_there(splits, dataset)
    splits = DatasetDict(
        {name: _with_classes(split, name, names, ignored_value, dataset) for name, split in splits.items()}
    )
    return with_test_split(splits, dataset) if needs_test_split else splits


def _with_usual_columns(
    splits: DatasetDict, image_column: str | None, mask_column: str | None, dataset: str
) -> DatasetDict:
    features = splits[next(iter(splits))].features
    mask_column = mask_column or _find_mask_column(features, dataset)
    others = {name: feature for name, feature in features.items() if name != mask_column}
    image_column = image_column or find_image_column(others)
    for column, kind in ((image_column, "image"), (mask_column, "mask")):
        if column not in features:
            named = "" if column is None else f" {column!r}"
            raise ValueError(
                f"{dataset} has no {kind} column{named}; name it with {kind}_column. Its columns are: "
                f"{describe(features)}."
            )
    splits = splits.select_columns([image_column, mask_column])
    for column, name in ((image_column, "image"), (mask_column, "mask")):
        splits = splits.rename_columns({column: name} if column != name else {})
        splits = splits.cast_column(name, datasets.Image(decode=False))
    return splits


def _find_mask_column(features: datasets.Features, dataset: str) -> str:
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    named = [name for name in MASK_COLUMNS if name in pictures]
    others = named or [name for name in pictures if name != "image"]
    if len(others) != 1:
        several = f"several columns that may be masks ({', '.join(others)})" if others else "no column of masks"
        raise ValueError(
            f"{dataset} has {several}; name the one to use with mask_column. Its columns are: {describe(features)}."
        )
    return others[0]


def _choose_names(
    own: Sequence[str] | None, class_names: Sequence[str] | str | Path | None, dataset: str
) -> list[str]:
    names = own if class_names is None else class_names
    if isinstance(names, str | Path):
        read = read_class_names(names)
        if isinstance(read, dict):
            raise ValueError(f"{names} must be a list, with the name of each pixel value in their order.")
        names = read
    if names is None:
        raise ValueError(
            f"{dataset} does not say how the pixel values of its masks are named; give class_names, a list or a file "
            "with the name of each value in their order, or write the file classes.txt into the folder."
        )
    names = [in_words(name) for name in names]
    chosen = iter(choose_names([name for name in names if is_class(name)], None, dataset))
    return [next(chosen) if is_class(name) else name for name in names]


def _check_masks_are_there(splits: DatasetDict, dataset: str) -> None:
    for name, split in splits.items():
        masks = split.select_columns("mask")[:]["mask"] if _are_files(split) else ()
        missing = [str(mask and mask["path"]) for mask in masks if mask is None or not Path(mask["path"]).is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(split)} masks in the {name} split of {dataset} do not exist; they were "
                f"looked for at {shortened(missing)}. Restore them, or remove their images."
            )


def _are_files(split: Dataset) -> bool:
    first = split[0]["mask"] if len(split) else None
    return first is not None and first["bytes"] is None and is_local_path(first["path"])


def _with_classes(split: Dataset, name: str, names: list[str], ignored_value: int, dataset: str) -> Dataset:
    """Add the column `classes`, check masks, and leave out images without a pixel that counts."""
    where = f"the {name} split of {dataset}"
    classes: list[list[int]] = []
    kept, seen = [], set()
    facts = tqdm(_examine(split, where), f"Checking the {name} masks", len(split), leave=False, unit=" masks")
    for index, (which, values) in enumerate(facts):
        progress.report("checking", index, len(split))
        check_values(values, names, ignored_value, which)
        seen |= {*values}
        counted = [value for value in values if value != ignored_value]
        if any(is_class(names[value]) or names[value].lower() == "background" for value in counted):
            kept.append(index)
            classes.append([value for value in counted if is_class(names[value])])
    if seen == {0, 255} and ignored_value == 255:
        raise ValueError(
            f"All masks in {where} are black and white: they have the pixel values 0 and 255 alone, and 255 is "
            "ignored. Write the number of its class into each pixel, or set ignored_value."
        )
    if not kept:
        raise ValueError(f"No mask in {where} has a pixel that counts; check class_names and ignored_value.")
    if len(kept) < len(split):
        logger.warning(
            f"{len(split) - len(kept)} of {len(split)} masks in {where} have no pixel that counts; left out."
        )
    features = datasets.Features({**split.features, CLASSES: classes_feature(names)})
    return replace_column(split.select(kept), CLASSES, classes, features[CLASSES])


def _examine(split: Dataset, where: str) -> Iterator[tuple[str, list[int]]]:
    """Yield for each mask what to call it, and its pixel values; check that it has the size of its image."""
    files = _are_files(split)
    rows = split.with_format(None)
    paths = [mask["path"] for mask in rows[:]["mask"]] if files else []
    facts = _FACTS.facts(paths) if files else (_fact(row["mask"]) for row in rows)
    for index, fact in enumerate(facts):
        row: dict[str, Any] = rows[index]
        which = (row["mask"] or {}).get("path") or f"row {index} of {where}"
        found = json.loads(fact)
        if "problem" in found:
            raise ValueError(found["problem"].replace("(without a path)", which))
        check_sizes(found["size"], size_of_image(row["image"]), which)
        yield which, found["values"]


def _fact(mask: Any) -> str:
    """Return the size and the values of a mask, or what is wrong with it, as JSON."""
    try:
        values = read_mask(mask)
    except ValueError as error:
        return json.dumps({"problem": str(error)})
    size = values.shape
    # Counting is ten times as fast as sorting.
    found = np.flatnonzero(np.bincount(values.ravel())) if values.max() < 2**16 else np.unique(values)
    return json.dumps({"size": size, "values": found.tolist()})


_FACTS = FileCache(f"masks-pillow-{PIL.__version__}", _fact)
