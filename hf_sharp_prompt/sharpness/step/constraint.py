"""Other losses that constrain the direction which a rule found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..vectors import cosine
from .gradients import Evaluations
from .m_sharpness import Followed


class Constraint(NamedTuple):
    """Another loss whose gradient constrains the direction.

    Args:
        name: The name under which it is logged.
        loss: The other loss, over the same batch, in the form of the step's own.
        constrain: From a direction and the other loss's gradient at the un-perturbed parameters to the direction
            that is to be followed.
    """

    name: str
    loss: Any
    constrain: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def constrain(followed: Followed, constraint: Constraint, evaluations: Evaluations) -> None:
    """Change the direction as the constraint asks.

    Args:
        followed: The rule's result; its direction, metrics and finiteness are updated.
        constraint: The constraint.
        evaluations: The evaluations of the constraint's loss, made before the step's first.
    """
    with evaluations.parameters_restored():
        gradient = evaluations()
    agreement = cosine(followed.direction, gradient)
    followed.direction = constraint.constrain(followed.direction, gradient)
    followed.metrics[f"{constraint.name}_cosine"] = agreement
    followed.metrics[f"{constraint.name}_conflicts"] = (agreement < 0).to(agreement)
    followed.finite = followed.finite & evaluations.finite()
