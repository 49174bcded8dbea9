"""The names of categories, and the labels of what data sets write for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, List

from ..columns import describe
from ..labels import shortened
from .rows import Row


ClassNames = Sequence[str] | Mapping[str, str]
"""The names of the categories: a list by label, or a dictionary from the data's own names or numbers."""

CATEGORY_COLUMNS = ("category", "categories", "category_id", "label", "labels", "class", "classes")


def fields_of_objects(split: Dataset, where: str) -> Mapping[str, Any]:
    """The features of an object, whether objects are a dictionary of lists or a list of dictionaries.

    Raises:
        ValueError: There is no column of objects.
    """
    if "objects" not in split.features:
        raise ValueError(
            f"{where} has no column 'objects'; its columns are: {describe(split.features)}. Detection data have the "
            "boxes and categories of each image's objects there."
        )
    feature: Any = split.features["objects"]
    return feature.feature if isinstance(feature, List) else feature


def find_field(fields: Mapping[str, Any], usual: Sequence[str], where: str) -> str:
    """Find the field of objects that has one of the usual names.

    Raises:
        ValueError: There is none.
    """
    found = next((name for name in usual if name in fields), None)
    if found is None:
        raise ValueError(f"The objects of {where} have {', '.join(fields)}, but no {usual[0]!r}; add or rename it.")
    return found


def name_categories(
    splits: DatasetDict, rows: Mapping[str, list[Row]], class_names: ClassNames | None, dataset: str
) -> tuple[list[Any], list[str]]:
    """Find what categories there are.

    Args:
        splits: The splits as they were read.
        rows: Their rows, with categories as they are written.
        class_names: What the user calls them.
        dataset: The data set, for errors.

    Returns:
        How the data write each category, by label, and the names of the categories.

    Raises:
        ValueError: Numbers without names; splits that number their categories differently; names as in [`rename`].
    """
    known = {name: _class_label(split, dataset) for name, split in splits.items()}
    label = known[first := next(iter(known))]
    if differing := [name for name, each in known.items() if each != label]:
        raise ValueError(
            f"The {differing[0]} split of {dataset} does not number its categories as the {first} split; cast both to "
            "the same ClassLabel."
        )
    if label is not None:
        return list(range(len(label.names))), rename(label.names, class_names, dataset)
    values = {each for split in rows.values() for row in split for each in row["objects"]["category"]}
    if values and all(isinstance(value, str) for value in values):
        return sorted(values), rename(sorted(values), class_names, dataset)
    if class_names is None:
        raise ValueError(
            f"The categories of {dataset} are numbers without names, and detectors read names; give class_names: a "
            "list, or a dictionary from number to name."
        )
    if isinstance(class_names, Mapping):
        by_number = {int(number): name for number, name in class_names.items()}
        return sorted(by_number), rename([by_number[number] for number in sorted(by_number)], None, dataset)
    return list(range(len(class_names))), rename(class_names, None, dataset)


def rename(names: Sequence[str], class_names: ClassNames | None, dataset: str) -> list[str]:
    """Return the names of categories as the user calls them, with spaces for underscores.

    Raises:
        ValueError: Not as many; an empty or repeated name; fewer than two.
    """
    if isinstance(class_names, Mapping):
        names = [class_names.get(name, name) for name in names]
    elif class_names is not None and len(class_names) != len(names):
        raise ValueError(
            f"class_names has {len(class_names)} names, but {dataset} has {len(names)} categories; give one for each, "
            "in the order of their numbers."
        )
    elif class_names is not None:
        names = class_names
    words = [str(name).replace("_", " ").strip() for name in names]
    if not all(words):
        raise ValueError(f"A category of {dataset} has an empty name; name it with class_names.")
    if repeated := sorted(name for name, count in Counter(words).items() if count > 1):
        raise ValueError(f"Several categories of {dataset} are called {shortened(repeated)}; rename or merge them.")
    if len(words) < 2:
        raise ValueError(f"{dataset} has {len(words)} categories; at least two are needed to tell objects apart.")
    return words


def number_categories(rows: list[Row], written: Sequence[Any], where: str) -> None:
    """Put labels in the place of categories as they are written.

    Raises:
        ValueError: A category that has no name.
    """
    labels = {value: label for label, value in enumerate(written)}
    for image, row in enumerate(rows):
        for value in row["objects"]["category"]:
            if isinstance(value, float | bool) or value not in labels:
                raise ValueError(
                    f"An object in image {image} of {where} has the category {value!r}, which is none of the "
                    f"{len(written)} that have names; correct it, remove the object, or name it with class_names."
                )
        row["objects"]["category"] = [labels[value] for value in row["objects"]["category"]]


def _class_label(split: Dataset, dataset: str) -> ClassLabel | None:
    fields = fields_of_objects(split, dataset)
    kind = fields[find_field(fields, CATEGORY_COLUMNS, dataset)]
    kind = kind.feature if isinstance(kind, List) else kind
    return kind if isinstance(kind, ClassLabel) else None
