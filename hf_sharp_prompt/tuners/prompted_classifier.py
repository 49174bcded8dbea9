"""What a training loop may ask of a model that classifies images by the texts of class names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase, ProcessorMixin


class PromptedClassifier(ABC):
    """A prompted model that compares images with the texts of class names.

    It is an abstract class and not a runtime-checkable protocol: `isinstance` with a protocol reads its properties
    before Python 3.12, and since then it does not see what a `PeftModel` forwards. Find it with
    [`find_prompted_classifier`].
    """

    @property
    @abstractmethod
    def labels_images(self) -> bool:
        """True if an image has one label; False if each object or pixel has one."""

    @property
    @abstractmethod
    def sees_images_frozen(self) -> bool:
        """True if nothing trains that encodes images, so their features may be kept."""

    @property
    @abstractmethod
    def reads_texts_frozen(self) -> bool:
        """True if nothing trains that encodes the classes' texts, so their features may be kept."""

    @property
    @abstractmethod
    def image_input_names(self) -> frozenset[str]:
        """The names of the inputs that `encode_images` reads; it ignores others."""

    @abstractmethod
    def encode_images(self, **inputs: Any) -> torch.Tensor:
        """Return features of images without prompts and without a graph, batch × …, not normalised."""

    @abstractmethod
    def keeping_class_features(self) -> AbstractContextManager[None]:
        """Within the block, in which prompts do not change, compute the features of the same classes only once."""

    @abstractmethod
    def set_classes(
        self, names: Sequence[str], tokenizer: PreTrainedTokenizerBase | ProcessorMixin, template: str = "{}"
    ) -> None:
        """Set the classes that the active adapter classifies into."""


def find_prompted_classifier(model: nn.Module) -> PromptedClassifier | None:
    """Return the tuner of a `PeftModel`, or the model itself, if it is a [`PromptedClassifier`]; else None."""
    tuner = model.base_model if isinstance(model, PeftModel) else model
    return tuner if isinstance(tuner, PromptedClassifier) else None
