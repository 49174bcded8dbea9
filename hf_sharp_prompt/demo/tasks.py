"""What is there to learn? Few-shot tasks in styles that the demo's CLIP has never seen."""

import difflib
import io
from dataclasses import dataclass
from itertools import product

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from .shapes import SHAPES
from .textures import TEXTURES
from .world import COLOURS, Stream, draw_scene, render


IMAGES_PER_CLASS = {"train": 32, "validation": 12, "test": 20}
"""Split → number of images of each class."""


@dataclass(frozen=True)
class Task:
    """Telling pairs of words apart in one style.

    Args:
        name: its kinds and style, as `load_task` takes it.
        description: one sentence.
        kinds: the two fields of a scene that a class names, in the order of the words.
        words: the words of each kind that the task's classes use; every pair of them is a class.
        style: the style of all its images, held out from pre-training.
        template: the hand-written prompt, with `{}` for the name of a class.
        seed: decides its images, with the split, the class and the image's number.
    """

    name: str
    description: str
    kinds: tuple[str, str]
    words: tuple[tuple[str, ...], tuple[str, ...]]
    style: str
    template: str
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted(" ".join(pair) for pair in product(*self.words)))

    def images(self, split: str, per_class: int | None = None) -> tuple[np.ndarray, list[int]]:
        """Renders a split, or the first images of each of its classes.

        Args:
            split: a key of `IMAGES_PER_CLASS`.
            per_class: how many images of each class; default: all.

        Returns:
            Images, uint8, (n, 48, 48, 3), and their labels, class by class.
        """
        splits = list(IMAGES_PER_CLASS)
        scenes, keys, labels = [], [], []
        for label, name in enumerate(self.classes):
            given = dict(zip(self.kinds, name.split()))
            for number in range(per_class or IMAGES_PER_CLASS[split]):
                key = (self.seed, splits.index(split), label, number)
                rng = np.random.default_rng((Stream.TASK_SCENE, *key))
                scenes.append(draw_scene(rng, (self.style,), **given))
                keys.append((Stream.TASK_IMAGE, *key))
                labels.append(label)
        return render(scenes, keys), labels

    def load(self) -> DatasetDict:
        """Renders the task.

        Returns:
            The splits of `IMAGES_PER_CLASS`, each with the columns `image` (`datasets.Image`) and `label`
            (`datasets.ClassLabel` with the names of the classes).
        """
        features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(self.classes))})
        splits = DatasetDict()
        for split in IMAGES_PER_CLASS:
            images, labels = self.images(split)
            columns = {"image": [{"bytes": _png(image), "path": None} for image in images], "label": labels}
            splits[split] = Dataset.from_dict(columns, features=features)
        return splits


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


_COLOURS, _TEXTURES, _SHAPES = tuple(COLOURS), tuple(TEXTURES), tuple(SHAPES)


def _colour_shape(style: str, where: str, seed: int) -> Task:
    return Task(
        name=f"colour_shape_{style}",
        description=f"Tell blue hearts from red stars {where}.",
        kinds=("colour", "shape"),
        words=(_COLOURS, ("circle", "cross", "heart", "moon", "star", "triangle")),
        style=style,
        template="a photo of a {}.",
        seed=seed,
    )


def _texture_shape(style: str, where: str, seed: int) -> Task:
    return Task(
        name=f"texture_shape_{style}",
        description=f"Tell striped rings from dotted squares {where}.",
        kinds=("texture", "shape"),
        words=(_TEXTURES, ("arrow", "diamond", "drop", "flower", "hexagon", "ring", "square")),
        style=style,
        template="a photo of a {}.",
        seed=seed,
    )


def _texture_colour(style: str, where: str, seed: int) -> Task:
    return Task(
        name=f"texture_colour_{style}",
        description=f"Tell wavy green things from plain pink ones {where}.",
        kinds=("texture", "colour"),
        words=(_TEXTURES, ("blue", "green", "orange", "pink", "purple", "red", "yellow")),
        style=style,
        template="a photo of a {} thing.",
        seed=seed,
    )


_ALL = (
    _colour_shape("tint", "under a green light", seed=1),
    _colour_shape("rain", "in the rain", seed=2),
    _colour_shape("poster", "on a poster of few inks", seed=3),
    _colour_shape("emboss", "as a relief", seed=4),
    _texture_shape("fog", "in fog", seed=5),
    _texture_shape("print", "in the dots of a newspaper", seed=6),
    _texture_colour("night", "at night, by a lamp", seed=7),
    _texture_colour("emboss", "as a relief", seed=8),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""Name → task."""

DEFAULT_TASK = "colour_shape_tint"
"""The name of the task that examples take when none is named."""


def load_task(name: str) -> DatasetDict:
    """Renders one of the demo's tasks.

    Args:
        name: a key of `TASKS`.

    Returns:
        The splits `train`, `validation` and `test`, each with the columns `image` and `label`.

    Raises:
        ValueError: there is no such task.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0)[0]
        raise ValueError(f"There is no demo task {name!r}; did you mean {nearest!r}? Tasks: {', '.join(TASKS)}.")
    return TASKS[name].load()
