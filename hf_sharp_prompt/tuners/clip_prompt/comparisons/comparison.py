"""How a kind of model is compared with class texts: what every kind has to say."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import nn
from transformers.utils import ModelOutput

from ..config import CLIPPromptConfig


@runtime_checkable
class Encoders(Protocol):
    """A model that encodes images and texts, such as a CLIP."""

    def get_image_features(self, *args: Any, **kwargs: Any) -> Any: ...

    def get_text_features(self, *args: Any, **kwargs: Any) -> Any: ...


def is_a(model: nn.Module, *names: str) -> bool:
    """Tell whether a model is of one of transformers' classes, by its name: each class's import takes 30 ms."""
    return any(kind.__name__ in names and kind.__module__.startswith("transformers.") for kind in type(model).__mro__)


class Comparison(ABC):
    """Compares one kind of model's images with class texts; it holds the model, and nothing of a call.

    A call encodes images (`encode_images`), compares them with the classes' features (`predict`) and, with labels,
    takes the loss. What `encode_images` returns is the same in every gradient evaluation while nothing trains that
    sees images, so that it is computed once per step, or once per run and kept. Put into it all that texts do not
    change.

    Args:
        model: The base model.

    Attributes:
        task: The task's name, as the Hub writes it.
        heads: The names of the model's modules, besides the vision tower, that images pass before texts meet them.
        targets: The names of the inputs that the loss takes.
        fewest_classes: How many classes are needed to tell something: 1 where there is background beside them.
        labels_images: True if an image has one label. Otherwise `labels` has one for each object or pixel.
        normalizes_classes: True if `predict` takes normalised features of the classes; False for those as they are.
        knows_background: Whether it can answer that a pixel shows none of the classes: by logits below 0.
        own_inputs: The inputs to which the model's own `forward` answers, not `classify`.
        output_class: What `classify` returns: a `loss`, what `predict` returns, and `class_features`.
        config: The config of the adapter that answers the call; None where there is none.
    """

    task: ClassVar[str]
    heads: ClassVar[tuple[str, ...]] = ()
    targets: ClassVar[tuple[str, ...]] = ("labels",)
    fewest_classes: ClassVar[int] = 2
    labels_images: ClassVar[bool] = False
    normalizes_classes: ClassVar[bool] = True
    knows_background: ClassVar[bool] = False
    own_inputs: ClassVar[tuple[str, ...]] = ("input_ids",)
    output_class: ClassVar[type[ModelOutput]]
    config: CLIPPromptConfig | None = None

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model  # Its class decides which attributes it has.

    @classmethod
    @abstractmethod
    def fits(cls, model: nn.Module) -> bool:
        """Tell whether a model is of this kind."""

    @property
    def encoders_name(self) -> str:
        """Where the part that encodes images and texts is in the model; by default it is the model itself."""
        return ""

    @property
    def encoders(self) -> Any:
        """The part of the model that encodes images and texts as a CLIP does."""
        return self.model.get_submodule(self.encoders_name)

    @property
    def image_input_names(self) -> frozenset[str]:
        """The names of the inputs that `encode_images` reads."""
        return frozenset(inspect.signature(self.encoders.get_image_features).parameters)

    def problem(self, config: CLIPPromptConfig) -> str | None:
        """Return in one sentence why a config's prompts have no meaning for this kind of model; None if they have."""
        return None

    @abstractmethod
    def encode_images(self, **inputs: Any) -> torch.Tensor:
        """Return all of the images that texts do not change, batch × …, with whatever prompts are active.

        Args:
            **inputs: `pixel_values`, and what else `image_input_names` has.
        """

    def prepare(self, image_features: torch.Tensor) -> torch.Tensor:
        """Return the features of images as `condition` and `predict` take them; by default as they are."""
        return image_features

    def condition(self, image_features: torch.Tensor) -> torch.Tensor:
        """Return what shifts a conditional context, images × width, of prepared features.

        Raises:
            ValueError: There is no such feature in this kind of model.
        """
        raise ValueError(f"{type(self.model).__name__} has no feature of a whole image that could shift a context.")

    @abstractmethod
    def predict(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the predictions by name, with `logits` among them.

        Args:
            image_features: Prepared features.
            class_features: Features of the classes' texts, classes × width; with a conditional context images ×
                classes × width. They are normalised if `normalizes_classes`.
        """

    @abstractmethod
    def loss(
        self,
        predicted: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor | None],
        num_items_in_batch: int | torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the loss of predictions.

        Args:
            predicted: What `predict` returned.
            targets: The inputs that `targets` names, `labels` at least.
            num_items_in_batch: What the summed loss is divided by; by default the number of labels that count.

        Raises:
            ValueError: Targets of another shape, or labels outside the classes.
        """

    def features(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the features that objectives read in training, by their names in the output."""
        return {"class_features": class_features}

    def answer(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """Return what the model's own `forward` answers to its own inputs.

        Args:
            forward: The model's `forward`.
            inputs: Its inputs by name.
        """
        return forward(**inputs)
