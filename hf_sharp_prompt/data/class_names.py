"""The names of classes: from a data set's own labels to words that a prompt can be made of."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Value

from ..compat.datasets import cast_column, replace_column
from ..hyperparameters import nearest
from .labels import shortened


ClassNames = Sequence[str] | Mapping[str, str] | Callable[[str], str]
"""How classes are named: the names by label, or the data set's name → name, or a function that makes it."""

HIDDEN = ("Cc", "Cf", "Cs")
"""Unicode's categories of characters that act on a terminal or a text, or are no characters at all."""

JOINERS = "\u200c\u200d"
"""Hidden characters that some scripts, and emoji, are written with."""

NUMBER = re.compile(r"-?\d+")
"""A label that is a whole number, written as a string."""

WHOLE_FLOAT = re.compile(r"-?\d+\.0+")
"""A label that is a whole number, written as a string with a fraction of zero."""

CODE = re.compile(r"n\d{8}|-?\d+(\.\d+)?")
"""A name that is no word: a WordNet id, as ImageNet's folders have, or a number."""


def with_named_labels(splits: DatasetDict, class_names: ClassNames | None, dataset: str) -> DatasetDict:
    """Make the `label` column of all splits the same `ClassLabel`, with names that prompts can be made of.

    Args:
        splits: Splits with a `label` column: a `ClassLabel`, strings, or whole numbers.
        class_names: How classes are named; None for the data set's own names in words. Strings are numbered in the
            order of a list, else sorted. Whole numbers, which strings may hold, need names: a list by number, or a
            dictionary from number to name, whose numbers are sorted.
        dataset: The data set, for errors.

    Raises:
        ValueError: Labels without names; names that do not fit the labels, that are empty, repeated, codes or numbers,
            or have control characters; fewer than two; splits that number their classes differently.
    """
    splits = _with_class_labels(splits, class_names, dataset)
    names = choose_names(splits[next(iter(splits))].features["label"].names, class_names, dataset)
    return _with_names(splits, names)


def choose_names(names: Sequence[str], class_names: ClassNames | None, dataset: str) -> list[str]:
    """Choose the names of classes for prompts.

    Args:
        names: The data set's own, by label.
        class_names: How classes are named; None for the data set's own names in words.
        dataset: The data set, for errors.

    Returns:
        The names by label.

    Raises:
        ValueError: As of [`with_named_labels`].
    """
    if isinstance(class_names, Mapping):
        unknown = [name for name in class_names if name not in names]
        if unknown and any(name not in class_names for name in names):  # else it names other classes, too
            raise ValueError(f"class_names has {unknown[0]!r}, no class of {dataset}{nearest(unknown[0], names)}")
        chosen = [class_names.get(name, in_words(name)) for name in names]
        if class_names:
            _check_are_words([name for name in names if name not in class_names], len(names), dataset)
    elif isinstance(class_names, Sequence):
        if len(class_names) != len(names):
            raise ValueError(f"class_names has {len(class_names)} names, but {dataset} has {len(names)} classes.")
        chosen = list(class_names)
    else:
        chosen = [in_words(name) if class_names is None else class_names(in_words(name)) for name in names]
        _check_are_words(chosen, len(chosen), dataset)
    for name in chosen:
        _check_is_printable(name, dataset)
    if len(chosen) < 2:
        raise ValueError(f"Classification needs at least two classes, but {dataset} has {len(chosen)}: {chosen}.")
    if empty := [index for index, name in enumerate(chosen) if not name.strip()]:
        raise ValueError(f"In {dataset}, classes {empty} have no name; a prompt needs one. Name them.")
    check_distinct(chosen, dataset)
    return chosen


def _with_names(splits: DatasetDict, names: Sequence[str]) -> DatasetDict:
    label = ClassLabel(names=list(names))
    return DatasetDict({name: cast_column(split, "label", label) for name, split in splits.items()})


def in_words(name: str) -> str:
    """Write a name as it stands in a text: words between single spaces."""
    return " ".join(name.replace("_", " ").split())


def check_distinct(names: Sequence[str], dataset: str) -> None:
    """Refuse names that several classes have.

    Args:
        names: The names by label.
        dataset: The data set, for errors.

    Raises:
        ValueError: A name that occurs more than once.
    """
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"In {dataset}, several classes are named {repeated}; rename or merge them.")


def _with_class_labels(splits: DatasetDict, class_names: ClassNames | None, dataset: str) -> DatasetDict:
    first = next(iter(splits))
    label = splits[first].features["label"]
    if isinstance(label, ClassLabel):
        if others := [name for name, split in splits.items() if split.features["label"] != label]:
            raise ValueError(
                f"In {dataset}, the labels of the {others[0]} split do not name the same classes in the same order as "
                f"those of the {first} split; cast both to the same ClassLabel."
            )
        return splits
    for name, split in splits.items():
        if split.features["label"] == Value("null"):  # none of its images has a label
            splits[name] = cast_column(split, "label", label)
    splits = DatasetDict({name: _with_whole_numbers(split, class_names) for name, split in splits.items()})
    label = splits[first].features["label"]
    kind = _kind_of(label)
    if others := [name for name, split in splits.items() if _kind_of(split.features["label"]) != kind]:
        other = _kind_of(splits[others[0]].features["label"])
        raise ValueError(
            f"In {dataset}, the labels of the {first} split are {kind} and those of the {others[0]} split {other}; "
            "write both in the same way."
        )
    comparable = kind in ("strings", "whole numbers")
    found = {each for split in splits.values() for each in (split.unique("label") if comparable else ())} - {None}
    if comparable and not found:
        raise ValueError(f"The {first} split of {dataset} has no labelled images; use a data set that has some.")
    if kind == "strings" and isinstance(class_names, Sequence) and _are_numbers(found - {*class_names}):
        kind = "whole numbers"
    if kind == "strings":
        return _with_labels_of_strings(splits, found, class_names, dataset)
    if kind == "whole numbers" and isinstance(class_names, Mapping | Sequence):
        return _with_labels_of_numbers(splits, {int(label) for label in found}, class_names, dataset)
    raise ValueError(
        f"The labels of {dataset} are {_describe(label)} without names, and prompts need names; pass their names as "
        "class_names (a list by label, a dictionary from number to name, or a file of either), cast the column to a "
        "ClassLabel with names, or name a column of strings with label_column."
    )


def _with_whole_numbers(split: Dataset, class_names: ClassNames | None) -> Dataset:
    """Write floats without a fraction and booleans as whole numbers: pandas writes numbers as floats if some miss."""
    label = split.features["label"]
    if isinstance(label, Value) and (label.dtype.startswith("float") or label.dtype == "bool"):
        try:
            return cast_column(split, "label", Value("int64"))
        except pa.ArrowInvalid:  # of fractions
            return split
    labels = {each for each in split.unique("label") if each} if _kind_of(label) == "strings" else set()
    has_names = isinstance(class_names, Mapping | Sequence) and not labels & {*class_names}
    if labels and has_names and all(map(WHOLE_FLOAT.fullmatch, labels)):
        return cast_column(cast_column(split, "label", Value("float64")), "label", Value("int64"))
    return split


def _kind_of(label: Any) -> str:
    if isinstance(label, Value) and label.dtype in ("string", "large_string"):
        return "strings"
    if isinstance(label, Value) and "int" in label.dtype:
        return "whole numbers"
    return _describe(label)


def _describe(label: Any) -> str:
    return f"{label.dtype} numbers" if isinstance(label, Value) else f"of type {type(label).__name__}, numbers"


def _are_numbers(labels: Collection[str]) -> bool:
    return bool(labels) and all(map(NUMBER.fullmatch, labels))


def _with_labels_of_strings(
    splits: DatasetDict, found: set[str], class_names: ClassNames | None, dataset: str
) -> DatasetDict:
    if isinstance(class_names, Sequence):
        if unknown := sorted(found - {*class_names}):
            raise ValueError(f"{dataset} has labels that class_names has not: {shortened(unknown)}.")
        return _with_names(splits, list(class_names))
    if _are_numbers(found):
        named = [*class_names] if isinstance(class_names, Mapping) else []
        numbers = named if found <= {*named} and _are_numbers(named) else found
        return _with_names(splits, sorted(numbers, key=int))
    return _with_names(splits, sorted(found))


def _with_labels_of_numbers(
    splits: DatasetDict, found: set[int], class_names: Sequence[str] | Mapping[str, str], dataset: str
) -> DatasetDict:
    """Number the classes from 0; negative labels are missing ones."""
    numbers = sorted(number for number in found if number >= 0)
    if isinstance(class_names, Mapping):
        if unnamed := [str(number) for number in numbers if class_names and str(number) not in class_names]:
            raise ValueError(f"{dataset} has labels that class_names has not: {shortened(unnamed)}.")
        numbers = sorted(map(int, filter(NUMBER.fullmatch, class_names))) or numbers
        names = [str(number) for number in numbers]
    else:
        if numbers and numbers[-1] >= len(class_names):
            raise ValueError(
                f"{dataset} has a label {numbers[-1]}, but class_names has only {len(class_names)} names, of the "
                f"labels 0 to {len(class_names) - 1}."
            )
        numbers, names = [*range(len(class_names))], list(class_names)
    label_of: dict[int | None, int] = {number: label for label, number in enumerate(numbers)}
    feature = ClassLabel(names=names)
    for name, split in splits.items():
        labels = [label_of.get(None if label is None else int(label)) for label in split["label"]]
        splits[name] = replace_column(split, "label", labels, feature)
    return splits


def _check_are_words(names: Sequence[str], number_of_classes: int, dataset: str) -> None:
    if codes := [name for name in names if CODE.fullmatch(name)]:
        raise ValueError(
            f"{len(codes)} of the {number_of_classes} classes of {dataset} are named by a code or number, and "
            f"prompts need words: {shortened(codes)}. Pass class_names: a list of names by label, a dictionary "
            "from code to name, or a file of either."
        )


def _check_is_printable(name: str, dataset: str) -> None:
    hidden = [c for c in name if not c.isspace() and unicodedata.category(c) in HIDDEN and c not in JOINERS]
    if hidden:
        raise ValueError(
            f"In {dataset}, the name of class {name!r} has the control character {hidden[0]!r}; rename the class."
        )
