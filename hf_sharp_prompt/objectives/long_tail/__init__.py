"""Losses for training sets in which some classes are rare: one file per loss, each named as it is chosen.

A loss takes the logits as the model returns them and changes them in training, by the classes' counts; the model and
its predictions stay as they are. Re-weighting the classes goes with every one of them.
"""

import inspect
import math
from collections.abc import Sequence

from ...hyperparameters import nearest
from .balanced_softmax import BalancedSoftmax
from .cross_entropy import CrossEntropy
from .gcl import GCL
from .ldam import LDAM
from .logit_adjustment import LogitAdjustment
from .loss import LongTailLoss, weighted_cross_entropy
from .weights import effective_number_weights, mean_weight


__all__ = [
    "GCL",
    "LDAM",
    "BalancedSoftmax",
    "CrossEntropy",
    "LogitAdjustment",
    "LongTailLoss",
    "create",
    "effective_number_weights",
    "mean_weight",
    "names",
    "weighted_cross_entropy",
]

LOSSES: dict[str, type[LongTailLoss]] = {
    "cross_entropy": CrossEntropy,
    "ldam": LDAM,
    "gcl": GCL,
    "logit_adjustment": LogitAdjustment,
    "balanced_softmax": BalancedSoftmax,
}


def names() -> list[str]:
    """The names of all losses, sorted."""
    return sorted(LOSSES)


def create(name: str, counts: Sequence[int], **hyperparameters: float) -> LongTailLoss:
    """Make a loss by name.

    Args:
        name: One of `names()`, e.g. `"gcl"`.
        counts: The training samples of each class, by label.
        **hyperparameters: Its hyperparameters; those not given take the values of its paper.

    Raises:
        ValueError: An unknown name or hyperparameter (the nearest is named), a value that is no number, or a class
            without samples.

    Example:
        ```py
        >>> loss = create("ldam", class_counts(train), scale=25)
        ```
    """
    if name not in LOSSES:
        raise ValueError(f"There is no loss {name!r}{nearest(name, LOSSES)} Known are: {', '.join(names())}.")
    defaults = {
        of.name: of.default for of in inspect.signature(LOSSES[name]).parameters.values() if of.name != "counts"
    }
    for given, value in hyperparameters.items():
        if given not in defaults:
            known = ", ".join(f"{key}={value}" for key, value in defaults.items()) or "none"
            raise ValueError(f"{name} has no hyperparameter {given!r}{nearest(given, defaults)} It takes: {known}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: {given} must be a finite number, got {value!r}.")
    return LOSSES[name](counts, **hyperparameters)
