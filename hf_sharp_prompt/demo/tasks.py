"""Few-shot tasks in two suites, and a long-tailed one.

The suites differ in their styles. Those of the first are held out from the models' pre-training, so that zero-shot
CLIP is weak, and a prompt gains on all classes by learning the style. Those of the second, `familiar`, are the styles
of pre-training, so that zero-shot CLIP is good, and a prompt may lose on novel classes by fitting its training images.
"""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from ..hyperparameters import nearest
from .textures import TEXTURES
from .world import COLOURS, Stream, draw_scene, render


IMAGES_PER_CLASS = {"train": 32, "validation": 12, "test": 20}
"""Split → number of images of each class."""


@dataclass(frozen=True)
class WordTask:
    """A task whose classes are combinations of words, in one style.

    Args:
        name: what the task's loading function takes; it ends with the kinds and the style.
        description: one sentence.
        kinds: the fields of a scene that a class names, in the order of the words.
        words: the words of each kind that the task's classes use; every combination of them is a class.
        style: the style of all its images.
        template: the hand-written prompt, with `{}` for the name of a class.
        seed: seed of its images, together with the split and the image's number.
    """

    name: str
    description: str
    kinds: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    style: str
    template: str
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted(" ".join(words) for words in product(*self.words)))


@dataclass(frozen=True)
class Task(WordTask):
    """A task: to tell combinations of words apart in one style.

    Args:
        images_per_class: split → number of images of each class; for the other arguments see `WordTask`.
    """

    images_per_class: Mapping[str, int] = field(default_factory=lambda: IMAGES_PER_CLASS)

    def images(self, split: str, per_class: int | Sequence[int] | None = None) -> tuple[np.ndarray, list[int]]:
        """Render a split, or the first images of each of its classes.

        Args:
            split: a key of `images_per_class`.
            per_class: number of images per class, one for all or one for each; default: all images.

        Returns:
            Images, uint8, (n, 48, 48, 3), and their labels, class by class.
        """
        per_class = self.images_per_class[split] if per_class is None else per_class
        counts = [per_class] * len(self.classes) if isinstance(per_class, int) else per_class
        splits = list(self.images_per_class)
        scenes, keys, labels = [], [], []
        for label, (name, count) in enumerate(zip(self.classes, counts, strict=True)):
            words = dict(zip(self.kinds, name.split()))
            for number in range(count):
                key = (self.seed, splits.index(split), label, number)
                rng = np.random.default_rng((Stream.TASK_SCENE, *key))
                scenes.append(draw_scene(rng, (self.style,), **words))
                keys.append((Stream.TASK_IMAGE, *key))
                labels.append(label)
        return render(scenes, keys), labels

    def load(self, train_counts: Sequence[int] | None = None) -> DatasetDict:
        """Render the task.

        Args:
            train_counts: number of training images of each class; default: `images_per_class`, as for all splits.

        Returns:
            The splits of `images_per_class`, each with the columns `image` (`datasets.Image`) and `label`
            (`datasets.ClassLabel` with the names of the classes).
        """
        features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(self.classes))})
        splits = DatasetDict()
        for split in self.images_per_class:
            images, labels = self.images(split, train_counts if split == "train" else None)
            columns = {"image": [encode_png(image) for image in images], "label": labels}
            splits[split] = Dataset.from_dict(columns, features=features)
        return splits


class LongTailTask(Task):
    """A task whose last classes may have few training images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, shuffled, so that no word is only in the rare ones."""
        return tuple(random.Random(self.seed).sample(super().classes, k=len(super().classes)))


def encode_png(image: np.ndarray) -> dict[str, bytes | None]:
    """Turn an image, uint8, (h, w, 3) or (h, w), into a value of a column of images."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


@dataclass(frozen=True)
class Vocabulary:
    """The classes that several tasks share in different styles.

    Args:
        description: the start of a task's description.
        kinds, words, template: see `WordTask`.
    """

    description: str
    kinds: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    template: str = "a photo of a {}."

    def task(self, style: str, where: str, seed: int) -> Task:
        """Make the task whose images have this style; `where` is the end of its description."""
        name, description = f"{'_'.join(self.kinds)}_{style}", f"{self.description} {where}."
        return Task(name, description, self.kinds, self.words, style, self.template, seed)


COLOUR_SHAPE = Vocabulary(
    "Tell blue hearts from red stars",
    ("colour", "shape"),
    (tuple(COLOURS), ("circle", "cross", "heart", "moon", "star", "triangle")),
)
TEXTURE_SHAPE = Vocabulary(
    "Tell striped rings from dotted squares",
    ("texture", "shape"),
    (tuple(TEXTURES), ("arrow", "diamond", "drop", "flower", "hexagon", "ring", "square")),
)
TEXTURE_COLOUR = Vocabulary(
    "Tell wavy green things from plain pink ones",
    ("texture", "colour"),
    (tuple(TEXTURES), ("blue", "green", "orange", "pink", "purple", "red", "yellow")),
    template="a photo of a {} thing.",
)
TEXTURE_COLOUR_SHAPE = Vocabulary(
    "Tell striped red stars from dotted blue hearts",
    ("texture", "colour", "shape"),
    (
        ("checkered", "dotted", "striped", "wavy"),
        ("blue", "green", "red", "yellow"),
        ("circle", "heart", "square", "star"),
    ),
)
COLOUR_TEXTURE_SHAPE = Vocabulary(
    "Tell pink swirled moons from cyan netted flowers",
    ("colour", "texture", "shape"),
    (
        ("cyan", "orange", "pink", "purple"),
        ("netted", "plain", "ringed", "swirled"),
        ("arrow", "cross", "flower", "moon"),
    ),
)

_UNFAMILIAR = (
    COLOUR_SHAPE.task("tint", "under a green light", seed=1),
    COLOUR_SHAPE.task("rain", "in the rain", seed=2),
    COLOUR_SHAPE.task("poster", "on a poster of few inks", seed=3),
    COLOUR_SHAPE.task("emboss", "as a relief", seed=4),
    TEXTURE_SHAPE.task("fog", "in fog", seed=5),
    TEXTURE_SHAPE.task("print", "in the dots of a newspaper", seed=6),
    TEXTURE_COLOUR.task("night", "at night, by a lamp", seed=7),
    TEXTURE_COLOUR.task("emboss", "as a relief", seed=8),
)

# Chosen by scripts/choose_familiar_tasks.py from zero-shot accuracy alone, before any method was run on them.
_FAMILIAR = (
    TEXTURE_SHAPE.task("photo", "in photos", seed=101),
    TEXTURE_COLOUR_SHAPE.task("blurry", "out of focus", seed=103),
    TEXTURE_COLOUR.task("noisy", "in noise", seed=104),
    COLOUR_TEXTURE_SHAPE.task("dark", "in the dark", seed=105),
    TEXTURE_SHAPE.task("faded", "in faded photos", seed=106),
    TEXTURE_COLOUR_SHAPE.task("old", "in old photos", seed=108),
    TEXTURE_COLOUR.task("photo", "in photos", seed=109),
    COLOUR_TEXTURE_SHAPE.task("sketch", "in sketches", seed=110),
)

UNFAMILIAR_TASKS: dict[str, Task] = {task.name: task for task in _UNFAMILIAR}
"""Name → task of the first suite, in styles held out from pre-training. `--dataset all` runs on them."""

FAMILIAR_TASKS: dict[str, Task] = {task.name: task for task in _FAMILIAR}
"""Name → task of the second suite, in styles of pre-training. `--dataset familiar` runs on them."""

TASKS: dict[str, Task] = UNFAMILIAR_TASKS | FAMILIAR_TASKS
"""Name → task, of both suites."""

DEFAULT_TASK = "colour_shape_tint"
"""The name of the task that the examples use by default."""


LONG_TAIL_TASK = LongTailTask(
    name="long_tail_night",
    description="Tell swirled blue hearts from ringed purple drops at night, by a lamp; most of them are rarely seen.",
    kinds=("texture", "colour", "shape"),
    words=(("ringed", "striped", "swirled", "wavy"), ("blue", "purple"), ("circle", "drop", "heart")),
    style="night",
    template="a photo of a {}.",
    seed=9,
    images_per_class={"train": 150, "validation": 10, "test": 25},
)
"""The task of `load_long_tail`."""


def load_task(name: str) -> DatasetDict:
    """Render one of the demo's tasks.

    Args:
        name: a key of `TASKS`.

    Returns:
        The splits `train`, `validation` and `test`, each with the columns `image` and `label`.

    Raises:
        ValueError: there is no such task.
    """
    if name not in TASKS:
        raise ValueError(f"There is no demo task {name!r}{nearest(name, TASKS)} Tasks: {', '.join(TASKS)}.")
    return TASKS[name].load()


def load_long_tail(train_counts: Sequence[int]) -> DatasetDict:
    """Render the long-tailed task: as many training images as asked for, and equally many test images of each class.

    A larger count has the images of a smaller one, and more.

    Args:
        train_counts: number of training images of each class of `LONG_TAIL_TASK`.

    Returns:
        The splits `train`, long-tailed, `validation` and `test`, balanced, each with the columns `image` and `label`.

    Raises:
        ValueError: the number of counts is not the number of classes, or a class has no training images.

    Example:
        ```py
        >>> splits = load_long_tail(exponential_counts(24, largest=150, imbalance=100))
        ```
    """
    classes = LONG_TAIL_TASK.classes
    if len(train_counts) != len(classes):
        raise ValueError(
            f"The task has {len(classes)} classes, but train_counts has {len(train_counts)}; give one for each."
        )
    if empty := [name for name, count in zip(classes, train_counts) if count < 1]:
        raise ValueError(f"{empty} would be left without training images; give each class at least one.")
    return LONG_TAIL_TASK.load(train_counts)
