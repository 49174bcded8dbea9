"""Categories of objects: base and novel ones, and few training images of each."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
from datasets import Dataset, DatasetDict

from ...hyperparameters import nearest
from ..labels import shortened
from .rows import Objects, category_names, objects_of, select_objects, with_objects


logger = logging.getLogger(__name__)


def base_and_novel_categories(
    names: Sequence[str], base: Sequence[str] | None = None, novel: Sequence[str] | None = None
) -> tuple[list[int], list[int]]:
    """Divide categories into base ones, to learn from, and novel ones, to generalise to.

    Args:
        names: The names of all categories, by label.
        base: The base categories; by default the first ceil(C/2) labels, or those that are not `novel`.
        novel: The novel categories; by default those that are not base.

    Returns:
        The labels of the base and of the novel categories, each in the order of the labels. With both lists given,
        categories in neither are in no half.

    Raises:
        ValueError: A name of no category, or one that is in both halves or repeated; a half of fewer than two.
    """
    if base is None and novel is None:
        base = names[: (len(names) + 1) // 2]
    chosen = {"base": base, "novel": novel}
    for half, listed in chosen.items():
        for name in listed or ():
            if name not in names:
                raise ValueError(f"The {half} categories have {name!r}, which the data has not{nearest(name, names)}")
        if repeated := sorted(name for name, count in Counter(listed or ()).items() if count > 1):
            raise ValueError(f"The {half} categories have {shortened(repeated)} more than once; list each one once.")
    if both := sorted({*(base or ())} & {*(novel or ())}):
        raise ValueError(
            f"{shortened(both)} {'is' if len(both) == 1 else 'are'} base and novel at once, but a category that is "
            "trained on is not novel; leave it in one of the two lists."
        )
    base = [name for name in names if name not in (novel or ())] if base is None else base
    novel = [name for name in names if name not in base] if novel is None else novel
    halves = (
        [label for label, name in enumerate(names) if name in base],
        [label for label, name in enumerate(names) if name in novel],
    )
    for half, labels in zip(chosen, halves, strict=True):
        if len(labels) < 2:
            raise ValueError(f"There are {len(labels)} {half} categories of {len(names)}; at least two are needed.")
    return halves


def only_categories(dataset: Dataset, labels: Sequence[int], keep_empty: bool = True) -> Dataset:
    """Keep the objects of some categories, relabelled from 0.

    Args:
        dataset: Detection data.
        labels: The labels to keep, in the order of their new ones.
        keep_empty: Whether images without such an object stay, as images without objects.
    """
    names, places = category_names(dataset), {label: place for place, label in enumerate(labels)}
    objects = []
    for each in objects_of(dataset):
        kept = [place for place, label in enumerate(each["category"]) if label in places]
        selected = select_objects(each, kept)
        objects.append({**selected, "category": [places[label] for label in selected["category"]]})
    if not keep_empty:
        filled = [image for image, each in enumerate(objects) if each["category"]]
        dataset, objects = dataset.select(filled), [objects[image] for image in filled]
    return with_objects(dataset, objects, [names[label] for label in labels])


def few_shot_objects(dataset: Dataset, shots: int, seed: int) -> Dataset:
    """Draw a few training images for each category.

    The images are visited in an order that the seed draws, and an image is taken if one of its categories has not yet
    been shown by `shots` taken images. So each category is in at least `shots` images, and all objects of a taken
    image stay: an object without its box would be learned as background.

    Args:
        dataset: Detection data to train on.
        shots: Images for each category, at least 1.
        seed: Seed of the order.

    Returns:
        The taken images, in the order of the data set. A warning counts categories with fewer.

    Raises:
        ValueError: There is less than one shot.
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, the training images of each category; got {shots!r}.")
    objects, names = objects_of(dataset), category_names(dataset)
    order, shown, taken = list(range(len(objects))), np.zeros(len(names), dtype=int), []
    random.Random(seed).shuffle(order)
    for image in order:
        categories = sorted(_categories_to_learn(objects[image]))
        if categories and (shown[categories] < shots).any():
            taken.append(image)
            shown[categories] += 1
    if fewer := [f"{names[label]} ({count})" for label, count in enumerate(shown) if count < shots]:
        logger.warning(
            f"{len(fewer)} of {len(names)} categories are in fewer than {shots} training images, and all of theirs "
            f"are taken: {shortened(fewer)}."
        )
    return dataset.select(sorted(taken))


def without_crowds(dataset: Dataset) -> Dataset:
    """Leave out the annotations of crowds, which have no single box, and then images without objects."""
    objects = [
        select_objects(each, [place for place, is_crowd in enumerate(each["crowd"]) if not is_crowd])
        for each in objects_of(dataset)
    ]
    filled = [image for image, each in enumerate(objects) if each["category"]]
    return with_objects(dataset.select(filled), [objects[image] for image in filled], category_names(dataset))


def halves_of(splits: DatasetDict, halves: tuple[Sequence[int], Sequence[int]]) -> dict[str, DatasetDict]:
    """The splits of the base, the novel and all these categories, each relabelled from 0."""
    base, novel = halves
    labels = {"base": base, "novel": novel, "all": [*base, *novel]}
    return {
        half: DatasetDict({name: only_categories(split, chosen) for name, split in splits.items()})
        for half, chosen in labels.items()
    }


def _categories_to_learn(objects: Objects) -> set[int]:
    pairs = zip(objects["category"], objects["crowd"], strict=True)
    return {label for label, is_crowd in pairs if not is_crowd}
