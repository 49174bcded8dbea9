"""What commands ask of a trained adapter, whatever it was trained for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from accelerate import PartialState
from PIL import Image

from ..data.decoding import decode
from ..tuners.prompted_classifier import find_prompted_classifier
from .formats import Prediction
from .loading import LoadedAdapter


Read = TypeVar("Read")
Answer = TypeVar("Answer")

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Settings:
    """What a command says about predictions. None is the default of the adapter's kind.

    Args:
        top: How many predictions of an image to name, at most.
        threshold: The score above which an object counts, or a pixel is not background.
        nms: The overlap (IoU) above which, of two boxes of a class, that of the lower score is dropped.
        image_size: Height and width that images are scaled to.
        output_dir: Where pictures are written.
    """

    top: int | None = None
    threshold: float | None = None
    nms: float | None = None
    image_size: int | None = None
    output_dir: str | None = None


class Predictor(ABC, Generic[Read, Answer]):
    """A model with a trained adapter, which answers images.

    Args:
        adapter: The adapter on its base model.
        settings: What is asked of it.

    Attributes:
        does: What it does to images, for messages.
        settings_read: The names of the settings that it reads.
        prediction: What it predicts.

    Raises:
        ValueError: A setting that has no meaning for it.
    """

    does: ClassVar[str]
    settings_read: ClassVar[frozenset[str]]
    prediction: ClassVar[type[Prediction]]

    def __init__(self, adapter: LoadedAdapter, settings: Settings) -> None:
        unread = {name for name, value in vars(settings).items() if value is not None} - self.settings_read
        if unread:
            raise ValueError(f"--{min(unread)} is not for an adapter that {self.does}; drop it.")
        self.model = adapter.model.eval().to(PartialState().device)
        self.image_processor, self.class_names = adapter.image_processor, adapter.class_names
        self.settings = settings

    def keeping_class_features(self) -> AbstractContextManager[None]:
        """Within the block, encode the classes' texts only once."""
        classifier = find_prompted_classifier(self.model)
        return nullcontext() if classifier is None else classifier.keeping_class_features()

    @property
    @abstractmethod
    def read(self) -> Callable[[Any], Read]:
        """What reads an image: a path, or another form that [`decode`] takes. It does not hold the model.

        It raises a `ValueError` for an image that cannot be read.
        """

    @abstractmethod
    def answer(self, batch: Sequence[Read]) -> list[Answer]:
        """Return the model's answer to each of these images."""

    @abstractmethod
    def predictions(self, answer: Answer) -> Sequence[Prediction]:
        """Return what is written of an answer, best first."""

    def files(self, answer: Answer, image: Image.Image) -> dict[str, Image.Image]:
        """Return the pictures that are made of an answer, by what ends their names.

        Args:
            answer: The answer.
            image: The image, as it was read.
        """
        return {}

    def labels_of_files(self) -> list[str] | None:
        """Return the names of the pixel values of label maps in the order of the values; None without such maps."""
        return None


def read_with_size(
    collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]], image: Any
) -> tuple[torch.Tensor, Size]:
    """Return an image's pixel values, channels × height × width, and its own size.

    Args:
        collator: Makes the pixel values.
        image: The image, in any form that [`decode`] takes.
    """
    decoded = decode(image)
    return collator([{"image": decoded}])["pixel_values"][0], (decoded.height, decoded.width)
