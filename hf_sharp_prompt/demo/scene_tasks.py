"""Detection and segmentation tasks: scenes of several objects in styles that the demo's models have never seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature

from ..hyperparameters import nearest
from .scenes import BACKDROP, MOST_OBJECTS, draw_objects, find_boxes, render_objects
from .tasks import WordTask, encode_png
from .world import Scene, Stream


OBJECTS_PER_CLASS = {"train": 32, "validation": 16, "test": 40}
"""Split → number of objects of each class."""

IGNORED = 255
"""What a mask has where no object is visible. These pixels have no label: no class gains or loses by them."""


@dataclass(frozen=True)
class SceneTask(WordTask):
    """A task: to find and to outline objects that combinations of words name, in one style.

    Each image has 1 to 4 objects. Every object is of one of the task's classes and has a box; there are no others.

    Args:
        objects_per_class: split → number of objects of each class; for the other arguments see `WordTask`.
    """

    objects_per_class: Mapping[str, int] = field(default_factory=lambda: OBJECTS_PER_CLASS)

    def labels(self, split: str) -> list[list[int]]:
        """Deal out the objects of a split.

        Args:
            split: a key of `objects_per_class`.

        Returns:
            For each image the classes of its objects. Each class comes as often as `objects_per_class` says.
        """
        rng = np.random.default_rng((Stream.TASK_OBJECTS, *self._key(split)))
        deck = np.arange(len(self.classes)).repeat(self.objects_per_class[split])
        rng.shuffle(deck)
        images, dealt = [], 0
        while dealt < len(deck):
            count = int(rng.integers(1, MOST_OBJECTS + 1))
            images.append(deck[dealt : dealt + count].tolist())
            dealt += count
        return images

    def scenes(self, split: str) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
        """Render a split.

        Args:
            split: a key of `objects_per_class`.

        Returns:
            Images, uint8, (n, 72, 72, 3); the number of the visible object at each pixel, as `render_objects` returns
            it, (n, 72, 72); and for each image the labels of its objects.
        """
        labels = self.labels(split)
        scenes: list[tuple[Scene, ...]] = []
        keys = []
        for number, of_image in enumerate(labels):
            key = (*self._key(split), number)
            words = [dict(zip(self.kinds, self.classes[label].split())) for label in of_image]
            scenes.append(draw_objects(np.random.default_rng((Stream.TASK_SCENE, *key)), (self.style,), words))
            keys.append((Stream.TASK_IMAGE, *key))
        return *render_objects(scenes, keys), labels

    def load(self) -> DatasetDict:
        """Render the task.

        Returns:
            The splits of `objects_per_class`, each with the columns

            - `image`: 72 × 72 pixels in RGB;
            - `objects`: `bbox`, a list of [left, top, width, height] in pixels around what is visible of each object;
              `category`, a list of `datasets.ClassLabel` with the names of the classes; `area`, a list of the numbers
              of visible pixels;
            - `mask`: an image of one channel with the number of the class at each pixel. It is 255 where no object is
              visible: the backdrop is not labelled.
        """
        features = Features(
            {
                "image": ImageFeature(),
                "objects": {
                    "bbox": List(List(Value("float32"), length=4)),
                    "category": List(ClassLabel(names=list(self.classes))),
                    "area": List(Value("int64")),
                },
                "mask": ImageFeature(),
            }
        )
        splits = DatasetDict()
        for split in self.objects_per_class:
            images, visible, labels = self.scenes(split)
            objects = [
                {
                    "bbox": find_boxes(numbers, len(of_image)).tolist(),
                    "category": of_image,
                    "area": [int((numbers == number).sum()) for number in range(len(of_image))],
                }
                for numbers, of_image in zip(visible, labels)
            ]
            columns = {
                "image": [encode_png(image) for image in images],
                "objects": objects,
                "mask": [encode_png(label_pixels(*pair)) for pair in zip(visible, labels)],
            }
            splits[split] = Dataset.from_dict(columns, features=features)
        return splits

    def _key(self, split: str) -> tuple[int, int]:
        return self.seed, list(self.objects_per_class).index(split)


def label_pixels(visible: np.ndarray, labels: list[int]) -> np.ndarray:
    """Turn numbers of objects into labels.

    Args:
        visible: the number of the visible object at each pixel of one image, (h, w).
        labels: the objects' labels.

    Returns:
        The label at each pixel, or `IGNORED`, uint8, (h, w).
    """
    return np.where(visible == BACKDROP, IGNORED, np.asarray(labels)[visible]).astype(np.uint8)


_COLOUR_SHAPE = (
    ("colour", "shape"),
    (("blue", "green", "red", "yellow"), ("heart", "moon", "star")),
)
_TEXTURE_SHAPE = (
    ("texture", "shape"),
    (("checkered", "dotted", "ringed", "striped"), ("drop", "ring", "square")),
)


def _task(vocabulary: tuple, description: str, style: str, seed: int) -> SceneTask:
    kinds, words = vocabulary
    return SceneTask(f"scenes_{'_'.join(kinds)}_{style}", description, kinds, words, style, "a photo of a {}.", seed)


_ALL = (
    _task(_COLOUR_SHAPE, "Find blue hearts and red stars under a green light.", "tint", seed=11),
    _task(_COLOUR_SHAPE, "Find blue hearts and red stars in the rain.", "rain", seed=12),
    _task(_TEXTURE_SHAPE, "Find striped rings and dotted squares in fog.", "fog", seed=13),
    _task(_TEXTURE_SHAPE, "Find striped rings and dotted squares in the dots of a newspaper.", "print", seed=14),
)

SCENE_TASKS: dict[str, SceneTask] = {task.name: task for task in _ALL}
"""Name → task. Each serves detection and segmentation."""

DEFAULT_SCENE_TASK = "scenes_colour_shape_tint"
"""The name of the task that the examples use by default."""


def load_scene_task(name: str) -> DatasetDict:
    """Render one of the demo's detection and segmentation tasks.

    Args:
        name: a key of `SCENE_TASKS`.

    Returns:
        The splits `train`, `validation` and `test`, each with the columns `image`, `objects` and `mask`; see
        `SceneTask.load`.

    Raises:
        ValueError: there is no such task.
    """
    if name not in SCENE_TASKS:
        raise ValueError(
            f"There is no demo scene task {name!r}{nearest(name, SCENE_TASKS)} Tasks: {', '.join(SCENE_TASKS)}."
        )
    return SCENE_TASKS[name].load()
