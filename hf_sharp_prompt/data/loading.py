"""Load the data set that a user names, as splits with an `image` and a `label` column."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Literal, get_args, overload

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Image, IterableDatasetDict

from ..class_names import read_class_names
from ..compat.datasets import column_of
from ..demo import TASKS
from . import catalogue, layouts
from .bad_images import SkippedImage, check_are_there, image_files, without_bad_images
from .class_names import choose_names, with_named_labels
from .columns import describe, find_image_column, find_label_column, require_column
from .labels import check_labels, class_counts, labels_of, shortened
from .layouts import Facts
from .splits import with_test_split, with_usual_names, without_classes
from .streaming import stream


logger = logging.getLogger(__name__)


OnBadImage = Literal["raise", "skip"]
"""What is done about images that cannot be read."""


@overload
def load_image_dataset(
    dataset: str,
    image_column: str | None = None,
    label_column: str | None = None,
    class_names: Sequence[str] | Mapping[str, str] | str | Path | None = None,
    data_root: str | Path | None = None,
    on_bad_image: OnBadImage = "raise",
    streaming: Literal[False] = False,
    needs_test_split: bool = True,
    skipped: list[SkippedImage] | None = None,
) -> DatasetDict: ...


@overload
def load_image_dataset(
    dataset: str,
    image_column: str | None = None,
    label_column: str | None = None,
    class_names: Sequence[str] | Mapping[str, str] | str | Path | None = None,
    data_root: str | Path | None = None,
    on_bad_image: OnBadImage = "raise",
    *,
    streaming: Literal[True],
    needs_test_split: bool = True,
    skipped: list[SkippedImage] | None = None,
) -> IterableDatasetDict: ...


def load_image_dataset(
    dataset: str,
    image_column: str | None = None,
    label_column: str | None = None,
    class_names: Sequence[str] | Mapping[str, str] | str | Path | None = None,
    data_root: str | Path | None = None,
    on_bad_image: OnBadImage = "raise",
    streaming: bool = False,
    needs_test_split: bool = True,
    skipped: list[SkippedImage] | None = None,
) -> DatasetDict | IterableDatasetDict:
    """Load images and labels for classification, as the Trainer, samplers and protocols take them.

    Args:
        dataset: A name of the catalogue (`data.catalogue.names()`); a task of the embedded demo; a folder with one
            folder of images per class, nested or not, in one folder per split or without splits, or with a metadata
            file; a table of paths and labels (CSV, TSV, JSON, JSONL, Parquet), a text list or a WebDataset, one file
            or a folder with one for each split; a folder that the papers' code reads; a data set that `save_to_disk`
            saved; a data set's id on the Hub; the path of a YAML file that describes a data set
            ([`~catalogue.CatalogueEntry`]); or what a layout that was added recognises. `docs/data.md` has examples.
        image_column: The column of the images, which are pictures, bytes or paths. By default the catalogue's; or
            `image`, or else the only one whose feature is an `Image` or that has another usual name, such as `img`, or
            else one with a usual name of a column of paths, such as `file_name`.
        label_column: The column of the labels. By default the catalogue's; or `label` or `labels`, or else the only
            one whose feature is a `ClassLabel` or whose name ends in `_label`, or else the only one with another usual
            name, such as `class` or `category`. It may hold strings, or with `class_names` whole numbers.
        class_names: The names of the classes: a list by label; a dictionary from the data set's names or
            numbers to others, where names that it does not have stay; or the path of a file of names, one on each
            line, or of a JSON file with a list or a dictionary. By default the catalogue's, or else the data set's
            own, which must be words: codes such as `n01440764` and bare numbers are refused. `{}` lets them pass, for
            models that make no prompts of names.
        data_root: The folder that has the data sets' folders, called as in CoOp's code: with `oxford_pets` as
            `dataset`, its folder `oxford_pets` is read. By default, a named data set is read from the Hub.
        on_bad_image: What to do about images that cannot be read. `raise` checks now that all image files exist and
            are not empty; one that cannot be decoded ends the run when its turn comes. `skip` decodes each image once
            now and leaves out those that it cannot; a warning counts and lists them.
        streaming: Return splits that read their images while they are iterated over, for evaluation of data that are
            too large to download. Nothing is checked before, and no split is held out. Labels must have names: a
            `ClassLabel`, or `class_names`.
        needs_test_split: Whether a test split is made where there is none. With `False` the splits stay as they are.
        skipped: A list to which the images are added that `skip` leaves out, each with its split, path and reason.

    Returns:
        Splits `train` and `test`, and `validation` where there is one, each with an `image` column that is not yet
        decoded and a `label` column, a `ClassLabel`. In class names, underscores have become spaces. Images without a
        label, and splits without any, are left out. Without a test split the validation split is the test split;
        without either, 30 % of the training split, stratified. Whatever is left out or stands in is logged. Data
        that are only for testing have only `test`.

    Raises:
        ValueError: No such data set; no image or label column, or several of which none is named; images that are
            missing, or that several splits share; labels beyond the classes; fewer than two classes; a class whose
            name is empty, a code, a number or repeated, or has control characters; splits that number their classes
            differently; a training split without labels; too few images to hold a test split out.
    """
    if on_bad_image not in get_args(OnBadImage):
        raise ValueError(f"on_bad_image must be 'raise' or 'skip', got {on_bad_image!r}.")
    entry = catalogue.find(dataset, data_root)
    entry = dataclasses.replace(
        entry, image_column=image_column or entry.image_column, label_column=label_column or entry.label_column
    )
    if isinstance(class_names, str | Path):
        class_names = read_class_names(class_names)
    naming = class_names or entry.naming or class_names
    if streaming:
        if on_bad_image == "skip":
            raise ValueError("on_bad_image='skip' reads all images first; load the data without streaming=True.")
        return stream(entry, naming, dataset)
    splits = with_usual_names(layouts.find(entry.source).read(entry), entry.splits, dataset)
    splits = _with_usual_columns(splits, entry.image_column, entry.label_column, dataset)
    splits = without_classes(splits, entry.left_out)
    splits = with_named_labels(splits, naming, dataset)
    splits = DatasetDict({name: _labelled_rows(split, name, dataset) for name, split in splits.items()})
    splits = _without_empty_splits(splits, "labelled", dataset)
    check_images_are_apart(splits, dataset)
    if on_bad_image == "skip":
        splits = _without_empty_splits(without_bad_images(splits, dataset, skipped), "readable", dataset)
    else:
        check_are_there(splits, dataset)
    if "train" in splits:
        _warn_of_classes_without_images(splits["train"], dataset)
    if not needs_test_split:
        return splits
    _check_classes_are_alike(splits, dataset)
    return with_test_split(splits, dataset)


def canonical_name(dataset: str, data_root: str | Path | None = None) -> str:
    """Return one name for all ways to write the same data set: `pets/`, `./pets` and `~/data/pets` may be one folder.

    Args:
        dataset, data_root: As for `load_image_dataset`.

    Returns:
        An absolute path where there is such a file or folder, links not followed; or else the name, as of a demo task
        or on the Hub.
    """
    if data_root is not None:
        return os.path.abspath(catalogue.find(dataset, data_root).source)
    is_name = dataset in TASKS or dataset in catalogue.names()
    if not is_name and (path := Path(dataset).expanduser()).exists():
        return os.path.abspath(path)
    return dataset.rstrip("/")


def find_facts(dataset: str, data_root: str | Path | None = None) -> Facts:
    """Find what is known about a data set without reading its images: columns, template, licence and citation.

    Args:
        dataset, data_root: As for `load_image_dataset`.

    Returns:
        What the catalogue knows, and for the rest what the layout knows.

    Raises:
        ValueError: There is no such data set.
    """
    entry = catalogue.find(dataset, data_root)
    facts = layouts.find(entry.source).facts(entry)
    return dataclasses.replace(
        facts,
        template=entry.template or facts.template,
        license=entry.license or facts.license,
        citation=entry.citation or facts.citation,
    )


def template_of(dataset: str, data_root: str | Path | None = None, method: str | None = None) -> str | None:
    """Return the hand-written prompt of a data set, such as `a photo of a {}, a type of pet.`

    Args:
        dataset, data_root: As for `load_image_dataset`.
        method: The method that the prompt is for, where it has another than CLIP's, such as `kgcoop`.

    Returns:
        The prompt, with `{}` for the name of a class; None where none is known. The Hub is not asked.
    """
    entry = catalogue.find(dataset, data_root)
    known = entry.method_templates.get(method or "") or entry.template
    layout = layouts.find(entry.source)
    return known or (None if isinstance(layout, layouts.Hub) else layout.facts(entry).template)


def load_class_names(dataset: str, data_root: str | Path | None = None) -> list[str]:
    """Return the names of a data set's classes, without reading its images if its layout knows them.

    Args:
        dataset, data_root: As for `load_image_dataset`.

    Raises:
        ValueError: There is no such data set, or no column of class labels, or several.
    """
    entry = catalogue.find(dataset, data_root)
    features = find_facts(dataset, data_root).features
    if features:
        label = features.get(entry.label_column or require_column(find_label_column, "label", features, dataset))
        if isinstance(label, ClassLabel):
            used = [name for name in label.names if name not in entry.left_out]
            return choose_names(used, entry.naming, dataset)
    splits = load_image_dataset(dataset, data_root=data_root)
    return splits[next(iter(splits))].features["label"].names


def _with_usual_columns(
    splits: DatasetDict, image_column: str | None, label_column: str | None, dataset: str
) -> DatasetDict:
    """Keep the two columns that are used, as `image`, not decoded, and `label`; test splits may have no label."""
    columns = splits[next(iter(splits))].features
    image_column = image_column or require_column(find_image_column, "image", columns, dataset)
    label_column = label_column or require_column(find_label_column, "label", columns, dataset)
    for name, column in product([*splits], (image_column, label_column)):
        if column in splits[name].column_names:
            continue
        problem = f"The {name} split of {dataset} has no column {column!r}"
        if column == image_column or columns is splits[name].features or column not in columns:
            raise ValueError(f"{problem}; its columns are: {describe(splits[name].features)}.")
        logger.warning(f"{problem} of labels and is left out.")
        del splits[name]
    splits = splits.select_columns([image_column, label_column])
    splits = splits.rename_columns({image_column: "image"} if image_column != "image" else {})
    splits = splits.rename_columns({label_column: "label"} if label_column != "label" else {})
    return splits.cast_column("image", Image(decode=False))


def _without_empty_splits(splits: DatasetDict, kind: str, dataset: str) -> DatasetDict:
    """Leave out splits without images.

    Args:
        splits: The splits.
        kind: The kind of images that are left in them: `labelled` or `readable`.
        dataset: The data set, for messages.

    Raises:
        ValueError: The training split, or the only one, is empty.
    """
    for name in [name for name, split in splits.items() if len(split) == 0]:
        if name == "train" or len(splits) == 1:
            raise ValueError(f"The {name} split of {dataset} has no {kind} images; use a data set that has some.")
        logger.warning(f"The {name} split of {dataset} has no {kind} images and is left out.")
        del splits[name]
    return splits


def _labelled_rows(split: Dataset, name: str, dataset: str) -> Dataset:
    labels = column_of(split, "label").fill_null(-1).to_numpy()
    kept = np.flatnonzero(labels >= 0)
    if len(kept) < len(labels):
        logger.warning(
            f"{len(labels) - len(kept)} of {len(labels)} images in the {name} split of {dataset} have no label and "
            "are left out."
        )
        split = split.select(kept)
    check_labels(labels[kept], split.features["label"].names, f"the {name} split of {dataset}")
    return split


def check_images_are_apart(splits: DatasetDict, dataset: str) -> None:
    """Check that no image file is in two splits, also where one folder is a link to another."""
    split_of_file: dict[str, str] = {}
    real_path = cache(os.path.realpath)
    for name, split in splits.items():
        shared: list[tuple[str, str]] = []
        for file in image_files(split):
            folder, own_name = os.path.split(file)
            if (other := split_of_file.setdefault(f"{real_path(folder)}/{own_name}", name)) != name:
                shared.append((file, other))
        if shared:
            file, other = shared[0]
            raise ValueError(
                f"In {dataset}, {len(shared)} image files are in the {name} split and in the {other} split as well, "
                f"such as {file}; keep each image in one split."
            )


def _check_classes_are_alike(splits: DatasetDict, dataset: str) -> None:
    """Check that what is learned can be measured, which it cannot where classes have other names in each split."""
    labels = {name: set(labels_of(split).tolist()) for name, split in splits.items()}
    for name in labels.keys() - {"train"} if "train" in labels else ():
        if not labels[name] & labels["train"]:
            names = splits[name].features["label"].names
            learned, measured = (shortened([names[each] for each in sorted(labels[key])]) for key in ("train", name))
            raise ValueError(
                f"In {dataset}, the train split and the {name} split have no class in common: {learned} and "
                f"{measured}; name classes in the same way in all splits."
            )


def _warn_of_classes_without_images(train: Dataset, dataset: str) -> None:
    names = train.features["label"].names
    if without := [name for name, count in zip(names, class_counts(train), strict=True) if count == 0]:
        logger.warning(
            f"{len(without)} of the {len(names)} classes of {dataset} have no training images: {shortened(without)}."
        )
