"""A few of the demo's images, as a data set or as a folder: to render a whole task takes seconds."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from hf_sharp_prompt.demo import DEFAULT_TASK, LONG_TAIL_TASK, TASKS, Task


_render = Task.images


def few_images(classes: int, **counts: int) -> DatasetDict:
    """The default task's first classes, with so many images of each in each split."""
    names, splits = TASKS[DEFAULT_TASK].classes[:classes], DatasetDict()
    for split, count in counts.items():
        columns = {"image": [], "label": []}
        for image, label in render(split, classes, count):
            columns["image"].append(image)
            columns["label"].append(label)
        features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(names))})
        splits[split] = Dataset.from_dict(columns, features=features)
    return splits


def make_folder(root: Path, classes: int = 4, train: int = 5, test: int = 4) -> Path:
    """Write them as a user has images: in a folder for each split and class."""
    names = TASKS[DEFAULT_TASK].classes
    for split, count in (("train", train), ("test", test)):
        for index, (image, label) in enumerate(render(split, classes, count)):
            path = root / split / names[label].replace(" ", "_") / f"{index % count}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return root


def render(split: str, classes: int, count: int) -> list[tuple[Image.Image, int]]:
    """Images and labels, class by class."""
    task = TASKS[DEFAULT_TASK]
    images, labels = task.images(split, [count] * classes + [0] * (len(task.classes) - classes))
    return [(Image.fromarray(image), label) for image, label in zip(images, labels, strict=True)]


@functools.cache
def _rendered(name: str, split: str, counts: int | tuple[int, ...] | None) -> tuple[np.ndarray, list[int]]:
    return _render({**TASKS, LONG_TAIL_TASK.name: LONG_TAIL_TASK}[name], split, counts)


def images_once(task: Task, split: str, per_class: int | Sequence[int] | None = None) -> tuple[np.ndarray, list[int]]:
    """`Task.images`, which renders the same images in a process once."""
    counts = per_class if per_class is None or isinstance(per_class, int) else tuple(per_class)
    return _rendered(task.name, split, counts)
