"""Load the data set that a user names, as splits with an `image` and a `label` column."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Image

from ..demo import TASKS
from . import catalogue, layouts
from .class_names import choose_names, with_named_labels
from .columns import describe, find_image_column, find_label_column
from .labels import check_labels, class_counts, shortened
from .layouts import Facts
from .splits import with_test_split, with_usual_names


logger = logging.getLogger(__name__)


def load_image_dataset(
    dataset: str,
    image_column: str | None = None,
    label_column: str | None = None,
    class_names: Sequence[str] | Mapping[str, str] | None = None,
    needs_test_split: bool = True,
) -> DatasetDict:
    """Load images and labels for classification, as the Trainer, samplers and protocols take them.

    Args:
        dataset: A name of the catalogue (`data.catalogue.names()`), a task of the embedded demo, a data set that
            `save_to_disk` saved, a folder in `imagefolder` layout (one folder per class, nested or not, in one folder
            per split or without splits; or with a metadata file), a data set's id on the Hub, the path of a YAML file
            that describes a data set ([`~catalogue.CatalogueEntry`]), or what a layout that was added recognises.
        image_column: The column of the images. By default the catalogue's; or `image`, or else the only one whose
            feature is an `Image` or that has another usual name, such as `img`.
        label_column: The column of the labels. By default the catalogue's; or `label` or `labels`, or else the only
            one whose feature is a `ClassLabel` or whose name ends in `_label`. It may hold strings, or with
            `class_names` whole numbers.
        class_names: The names of the classes: a list by label, or a dictionary from the data set's names to others;
            names that a dictionary does not have stay. By default the catalogue's, or else the data set's own, which
            must be words: codes such as `n01440764` and bare numbers are refused. `{}` lets them pass, for models
            that make no prompts of names.
        needs_test_split: Whether a test split is made where there is none. With `False` the splits stay as they are.

    Returns:
        Splits `train` and `test`, and `validation` where there is one, each with an `image` column that is not yet
        decoded and a `label` column, a `ClassLabel`. In class names, underscores have become spaces. Images without a
        label, and splits without any, are left out. Without a test split the validation split is the test split;
        without either, 30 % of the training split, stratified. Whatever is left out or stands in is logged.

    Raises:
        ValueError: No such data set; no image or label column, or several of which none is named; images that are
            missing, or that several splits share; labels beyond the classes; fewer than two classes; a class whose
            name is empty, a code, a number or repeated, or has control characters; splits that number their classes
            differently; a training split without labels; too few images to hold a test split out.
    """
    entry = catalogue.find(dataset)
    splits = with_usual_names(layouts.find(entry.source).read(entry), entry.splits, dataset)
    splits = _with_usual_columns(
        splits, image_column or entry.image_column, label_column or entry.label_column, dataset
    )
    splits = with_named_labels(splits, class_names or entry.class_names or class_names, dataset)
    splits = _without_unlabelled(splits, dataset)
    _check_images(splits, dataset)
    _warn_of_classes_without_images(splits["train"], dataset)
    return with_test_split(splits, dataset) if needs_test_split else splits


def canonical_name(dataset: str) -> str:
    """Return one name for all ways to write the same data set: `pets/`, `./pets` and `~/data/pets` may be one folder.

    Args:
        dataset: As for `load_image_dataset`.

    Returns:
        An absolute path where there is such a file or folder, links not followed; or else the name, as of a demo task
        or on the Hub.
    """
    is_name = dataset in TASKS or dataset in catalogue.names()
    if not is_name and (path := Path(dataset).expanduser()).exists():
        return os.path.abspath(path)
    return dataset.rstrip("/")


def find_facts(dataset: str) -> Facts:
    """Find what is known about a data set without reading its images: columns, template, licence and citation.

    Args:
        dataset: As for `load_image_dataset`.

    Returns:
        What the catalogue knows, and for the rest what the layout knows.

    Raises:
        ValueError: There is no such data set.
    """
    entry = catalogue.find(dataset)
    facts = layouts.find(entry.source).facts(entry)
    return dataclasses.replace(
        facts,
        template=entry.template or facts.template,
        license=entry.license or facts.license,
        citation=entry.citation or facts.citation,
    )


def load_class_names(dataset: str) -> list[str]:
    """Return the names of a data set's classes, without reading its images if its layout knows them.

    Args:
        dataset: As for `load_image_dataset`.

    Raises:
        ValueError: There is no such data set, or no column of class labels, or several.
    """
    entry = catalogue.find(dataset)
    features = find_facts(dataset).features
    if features:
        label = features.get(entry.label_column or _find_column(find_label_column, "label", features, dataset))
        if isinstance(label, ClassLabel):
            return choose_names(label.names, entry.class_names, dataset)
    return load_image_dataset(dataset)["train"].features["label"].names


def _with_usual_columns(
    splits: DatasetDict, image_column: str | None, label_column: str | None, dataset: str
) -> DatasetDict:
    """Keep the two columns that are used, as `image`, not decoded, and `label`."""
    columns = splits["train"].features
    image_column = image_column or _find_column(find_image_column, "image", columns, dataset)
    label_column = label_column or _find_column(find_label_column, "label", columns, dataset)
    for split, column in product(splits, (image_column, label_column)):
        if column not in splits[split].column_names:
            columns = splits[split].features
            raise ValueError(
                f"The {split} split of {dataset} has no column {column!r}; its columns are: {describe(columns)}."
            )
    splits = splits.select_columns([image_column, label_column])
    splits = splits.rename_columns({image_column: "image"} if image_column != "image" else {})
    splits = splits.rename_columns({label_column: "label"} if label_column != "label" else {})
    return splits.cast_column("image", Image(decode=False))


def _find_column(
    find: Callable[[Mapping[str, Any]], str | None], kind: str, columns: Mapping[str, Any], dataset: str
) -> str:
    try:
        column = find(columns)
    except ValueError as error:
        raise ValueError(f"In {dataset}: {error}") from error
    if column is None:
        raise ValueError(
            f"{dataset} has no {kind} column; name the one to use with {kind}_column. Its columns are: "
            f"{describe(columns)}."
        )
    return column


def _without_unlabelled(splits: DatasetDict, dataset: str) -> DatasetDict:
    """Leave out images without a label, and splits that have no others."""
    labelled = DatasetDict({name: _labelled_rows(split, name, dataset) for name, split in splits.items()})
    for name in [name for name, split in labelled.items() if len(split) == 0]:
        if name == "train":
            raise ValueError(f"The train split of {dataset} has no labelled images; use a data set that has some.")
        logger.warning(f"The {name} split of {dataset} has no labelled images and is left out.")
        del labelled[name]
    return labelled


def _labelled_rows(split: Dataset, name: str, dataset: str) -> Dataset:
    labels = split.select_columns("label").with_format("arrow")[:]["label"].fill_null(-1).to_numpy()
    kept = np.flatnonzero(labels >= 0)
    if len(kept) < len(labels):
        logger.warning(
            f"{len(labels) - len(kept)} of {len(labels)} images in the {name} split of {dataset} have no label and "
            "are left out."
        )
        split = split.select(kept)
    check_labels(labels[kept], split.features["label"].names, f"the {name} split of {dataset}")
    return split


def _check_images(splits: DatasetDict, dataset: str) -> None:
    """Check that no image is missing, and that no image file is in two splits."""
    split_of_file: dict[str, str] = {}
    for name, split in splits.items():
        shared = [file for file in _image_files(split, name, dataset) if split_of_file.setdefault(file, name) != name]
        if shared:
            raise ValueError(
                f"In {dataset}, {len(shared)} image files are in the {name} split and in the "
                f"{split_of_file[shared[0]]} split as well, such as {shared[0]}; keep each image in one split."
            )


def _image_files(split: Dataset, name: str, dataset: str) -> Iterator[str]:
    """Go through the paths of images that are files, not bytes in the data set; none may be missing."""
    missing = 0
    for table in split.with_format("arrow").iter(1000):
        image = table["image"]
        paths = pc.struct_field(image, "path").filter(pc.is_null(pc.struct_field(image, "bytes")))
        missing += paths.null_count
        yield from paths.drop_null().to_pylist()
    if missing:
        raise ValueError(
            f"{missing} of {len(split)} images in the {name} split of {dataset} are missing (None); remove their rows."
        )


def _warn_of_classes_without_images(train: Dataset, dataset: str) -> None:
    names = train.features["label"].names
    if without := [name for name, count in zip(names, class_counts(train), strict=True) if count == 0]:
        logger.warning(
            f"{len(without)} of the {len(names)} classes of {dataset} have no training images: {shortened(without)}."
        )
