"""A rule applied to the whole batch, or to its parts by themselves (m-sharpness, Foret et al. §4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .evaluation import Evaluations
from .rule import Among
from .vectors import cosine


if TYPE_CHECKING:
    from .aware import SharpnessAware

BackwardPass = Callable[[Among | None], torch.Tensor]


class Constraint(NamedTuple):
    """What the gradient of another loss has to say about a direction.

    Args:
        name: Under which it is logged.
        loss: The other loss, over the same batch, in the form in which the step's own is given.
        constrain: From a direction and the other loss's gradient at the un-perturbed parameters to the direction
            that is to be followed.
    """

    name: str
    loss: Any
    constrain: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class Followed:
    """What came of a step's gradient evaluations.

    Args:
        direction: The direction d.
        metrics: What is to be logged, the `loss` among it.
        reached: For each parameter whether the loss depended on it.
        finite: Whether all gradients were, in every process.
    """

    direction: torch.Tensor
    metrics: dict[str, torch.Tensor]
    reached: list[bool]
    finite: torch.Tensor


def follow(sharp: SharpnessAware, backward_pass: BackwardPass) -> Followed:
    """Apply the rule to the whole batch."""
    evaluations = Evaluations(sharp, backward_pass)
    with evaluations.parameters_restored():
        direction = sharp.rule.direction(evaluations)
    metrics = evaluations.metrics() | sharp.rule.reported
    return Followed(direction, metrics, evaluations.reached, evaluations.finite())


def constrain(followed: Followed, constraint: Constraint, evaluations: Evaluations) -> None:
    """Let a constraint have its say.

    Args:
        followed: What came of the rule; changed.
        constraint: The constraint.
        evaluations: Those of its loss.
    """
    with evaluations.parameters_restored():
        gradient = evaluations()
    agreement = cosine(followed.direction, gradient)
    followed.direction = constraint.constrain(followed.direction, gradient)
    followed.metrics[f"{constraint.name}_cosine"] = agreement
    followed.metrics[f"{constraint.name}_conflicts"] = (agreement < 0).to(agreement)
    followed.finite = followed.finite & evaluations.finite()


def follow_parts(
    sharp: SharpnessAware, passes: Sequence[BackwardPass], shares: Sequence[torch.Tensor | float]
) -> Followed:
    """Apply the rule to each of this process's parts by itself, and take the mean over all processes' parts.

    A part counts as many times as it has samples, or by its share. Every part starts from what the rule remembers of
    the steps before; afterwards it remembers the mean, so that it is the same in every process.
    """
    rule, before = sharp.rule, sharp.rule.state
    rank = 0 if sharp.accelerator is None else sharp.accelerator.process_index
    sums: dict[tuple[str, str], torch.Tensor] = {}
    finite, reached = [], [False] * len(sharp.parameters)
    for number, (backward_pass, share) in enumerate(zip(passes, shares, strict=True)):
        rule.state = dict(before)
        evaluations = Evaluations(sharp, backward_pass, number * sharp.processes + rank, share)
        with evaluations.parameters_restored():
            direction = rule.direction(evaluations)
        values = {("direction", ""): direction, ("weight", ""): torch.ones_like(evaluations.weight)}
        values |= {("metrics", name): value for name, value in (evaluations.metrics() | rule.reported).items()}
        values |= {("state", name): value for name, value in rule.state.items() if value.is_floating_point()}
        for key, value in values.items():
            sums[key] = sums.get(key, 0) + evaluations.weight.to(direction) * value.to(direction)
        finite.append(evaluations.finite())
        reached = [before or now for before, now in zip(reached, evaluations.reached, strict=True)]
    sums["finite", ""] = torch.stack(finite).all().to(direction)
    if sharp.processes > 1:
        sums, reached = _reduce(sharp, sums, reached)
    weight = sums["weight", ""]
    rule.state |= {name: value / weight for (kind, name), value in sums.items() if kind == "state"}
    metrics = {name: value / weight for (kind, name), value in sums.items() if kind == "metrics"}
    return Followed(sums["direction", ""] / weight, metrics, reached, sums["finite", ""] == 1)


def _reduce(
    sharp: SharpnessAware, sums: dict[tuple[str, str], torch.Tensor], reached: list[bool]
) -> tuple[dict[tuple[str, str], torch.Tensor], list[bool]]:
    """Means over the processes, as one tensor."""
    flat = torch.cat([*(value.reshape(-1) for value in sums.values()), sums["weight", ""].new_tensor(reached)])
    flat = sharp.accelerator.reduce(flat, reduction="mean")
    *values, flags = flat.split([*(value.numel() for value in sums.values()), len(reached)])
    if not all(reached):  # else there is nothing to learn, and no reason to wait for the device
        reached = [flag > 0 for flag in flags.tolist()]
    return {key: value.view_as(sums[key]) for key, value in zip(sums, values, strict=True)}, reached
