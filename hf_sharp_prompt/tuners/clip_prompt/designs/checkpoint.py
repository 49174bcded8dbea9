"""Which tensor of a released checkpoint is which of an adapter: the terms in which designs say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from ..config import CLIPPromptConfig


Shapes = Mapping[str, tuple[int, ...]]


class Place(NamedTuple):
    """Where a tensor of a checkpoint is in an adapter.

    Args:
        name: The adapter's tensor, below its tower's embeddings.
        row: Its row there; None is all of it.
    """

    name: str
    row: int | None = None


class Checkpoint(ABC):
    """How the files of a repository hold what a design learns.

    Tensors are named as in the prompt learner, without the prefix `prompt_learner.`; those that a design puts into the
    towers have their whole name, such as `image_encoder.VPT`.

    Attributes:
        requires: The tensor that every file of the design has.
        is_whole_model: True if files hold the whole model, with the prompt learner in it; False if they hold the
            prompt learner alone.
        has_no_place_for: The config's fields that the repository does not know, so that they must have their defaults.
    """

    requires: ClassVar[str]
    is_whole_model: ClassVar[bool]
    has_no_place_for: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        """Read the config's fields from a file.

        Args:
            shapes: By name the shapes of its learned tensors, of which `requires` is one.

        Raises:
            ValueError: A tensor has a shape that no file of the design has.
        """

    @abstractmethod
    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        """By name the learned tensors of a checkpoint, and where each is in an adapter with this config."""


def count(shapes: Shapes, *prefixes: str) -> int:
    """The number of tensors whose names start with one of the prefixes."""
    return sum(name.startswith(prefixes) for name in shapes)


def read_context(shapes: Shapes) -> dict[str, Any]:
    """The fields that the context `ctx`, tokens × width or classes × tokens × width, tells."""
    return {"num_text_tokens": count_tokens(shapes, "ctx"), "class_specific": len(shapes["ctx"]) == 3}


def count_tokens(shapes: Shapes, name: str) -> int:
    """The number of tokens of a tensor of tokens × width.

    Raises:
        ValueError: It has another number of dimensions.
    """
    shape = shapes[name]
    if len(shape) not in (2, 3):
        raise ValueError(f"{name} should be tokens × width, but has {len(shape)} dimensions.")
    return shape[-2]


def weight_and_bias(*linears: str) -> list[str]:
    """The names of the tensors of linear maps."""
    return [f"{linear}.{part}" for linear in linears for part in ("weight", "bias")]
