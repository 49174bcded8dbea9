"""How a model is compared with class texts: one file for each kind of model."""

from __future__ import annotations

from torch import nn

from .clipseg import CLIPSeg
from .comparison import Comparison
from .dense_clip import DenseCLIP
from .images import CLIPPromptOutput, Images
from .objects import DetectionOutput, Objects
from .pixels import SegmentationOutput


__all__ = [
    "COMPARISONS",
    "CLIPPromptOutput",
    "Comparison",
    "DetectionOutput",
    "SegmentationOutput",
    "find_comparison",
    "register_comparison",
]

COMPARISONS: list[type[Comparison]] = [Images, Objects, CLIPSeg, DenseCLIP]
"""The known kinds, each named by its task. Of those that fit a model the first is its default."""


def register_comparison(comparison: type[Comparison]) -> None:
    """Make a kind of model known. Other tasks of the same models stay their defaults.

    Args:
        comparison: A subclass of [`Comparison`].

    Example:
        ```py
        >>> class Depths(Comparison):
        ...     task = "depth-estimation"
        ...     ...
        >>> register_comparison(Depths)
        ```
    """
    COMPARISONS.append(comparison)


def find_comparison(model: nn.Module, task: str | None = None) -> Comparison | None:
    """Return how a model is compared with class texts; None if it is not.

    Args:
        model: The base model.
        task: The task, for a model that has several. By default it is the model's first.

    Raises:
        ValueError: The model has tasks, but not this one.
    """
    fitting = [each for each in COMPARISONS if each.fits(model)]
    if task is None or not fitting:
        return fitting[0](model) if fitting else None
    for each in fitting:
        if each.task == task:
            return each(model)
    raise ValueError(
        f"task={task!r} is not one that {type(model).__name__} can be prompted for, which is "
        f"{' or '.join(repr(each.task) for each in fitting)}; leave task out, or load the model that has this task."
    )
