"""Base and novel classes, and few-shot training sets, of images with masks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from datasets import Dataset, DatasetDict

from ...hyperparameters import nearest
from .classes import CLASSES, segmented_classes, value_names


def split_classes(
    data: DatasetDict, base: Sequence[str] | None = None, novel: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Split the classes into base classes, to learn from, and novel ones, to generalise to.

    Args:
        data: Splits with a column `classes`.
        base: The names of the base classes. By default those that are not novel; without `novel` the first ceil(C/2)
            of the C classes, in the order of their pixel values, as `base_to_novel` splits those of classification.
        novel: The names of the novel classes. By default those that are not base. With both named, pixels of the
            classes in neither are ignored.

    Returns:
        The names of the base classes and those of the novel ones.

    Raises:
        ValueError: A class that the data do not have, that is named twice or in both halves; fewer than two classes in
            a half.
    """
    names = segmented_classes(data)
    for half, classes in (("base", list(base or ())), ("novel", list(novel or ()))):
        if unknown := [name for name in classes if name not in names]:
            raise ValueError(f"There is no class {unknown[0]!r} to be a {half} class{nearest(unknown[0], names)}")
        if repeated := sorted(name for name, count in Counter(classes).items() if count > 1):
            raise ValueError(f"The {half} classes name {repeated[0]!r} twice; name each once.")
    if both := [name for name in base or () if name in (novel or ())]:
        raise ValueError(f"The class {both[0]!r} is in both halves, base and novel; keep it in one.")
    if base is None:
        base = names[: (len(names) + 1) // 2] if novel is None else [name for name in names if name not in novel]
    base = list(base)
    novel = [name for name in names if name not in base] if novel is None else list(novel)
    for half, classes in (("base", base), ("novel", novel)):
        if len(classes) < 2:
            raise ValueError(
                f"There are {len(classes)} {half} classes ({', '.join(classes) or 'none'}) of {len(names)}; to "
                "compare them, a half needs at least two."
            )
    return base, novel


def with_classes(split: Dataset, classes: Sequence[str]) -> Dataset:
    """Keep the images that show one of these classes.

    Args:
        split: Images with a column `classes`.
        classes: The names of the classes.

    Raises:
        ValueError: No image shows one.
    """
    names = value_names(split)
    values = {names.index(name) for name in classes}
    kept = [index for index, shown in enumerate(split[:][CLASSES]) if values & {*shown}]
    if not kept:
        raise ValueError(f"No image shows one of the classes {', '.join(classes)}; use a data set that has some.")
    return split.select(kept)


def few_shot_masks(split: Dataset, classes: Sequence[str], shots: int, seed: int) -> Dataset:
    """Draw a few images for each class.

    For each class in their order, `shots` of the images that show it are drawn at random, or all if there are fewer.
    An image that is drawn for several classes is taken once, so that there are at most `shots` times the classes; it
    shows other classes, too.

    Args:
        split: Images with a column `classes`.
        classes: The names of the classes.
        shots: Images for each class, at least 1.
        seed: Seed of the random stream.

    Raises:
        ValueError: Less than one shot; a class that no image shows.
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, the training images for each class; got {shots!r}.")
    stream, names, shown = random.Random(seed), value_names(split), split[:][CLASSES]
    chosen: dict[int, None] = {}
    for name in classes:
        value = names.index(name)
        members = [index for index, values in enumerate(shown) if value in values]
        if not members:
            raise ValueError(f"No training image shows the class {name!r}; leave it out, or add images.")
        chosen |= dict.fromkeys(stream.sample(members, shots) if len(members) >= shots else members)
    return split.select(list(chosen))
