"""A rule applied to the whole batch, or to each of its parts alone (m-sharpness, Foret et al. §4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..rule import SharpnessRule
from .context import StepContext
from .gradients import BackwardPass, Evaluations


@dataclass
class Followed:
    """The result of a step's gradient evaluations.

    Args:
        direction: The direction d.
        metrics: What is to be logged, with the `loss`.
        reached: For each parameter whether the loss depended on it.
        finite: True if all gradients were finite, in every process.
    """

    direction: torch.Tensor
    metrics: dict[str, torch.Tensor]
    reached: list[bool]
    finite: torch.Tensor


def follow(rule: SharpnessRule, context: StepContext, backward_pass: BackwardPass) -> Followed:
    """Apply the rule to the whole batch."""
    evaluations = Evaluations(context, backward_pass)
    with evaluations.parameters_restored():
        direction = rule.direction(evaluations)
    metrics = evaluations.metrics() | rule.reported
    return Followed(direction, metrics, evaluations.reached, evaluations.finite())


def follow_parts(
    rule: SharpnessRule,
    context: StepContext,
    passes: Sequence[BackwardPass],
    shares: Sequence[torch.Tensor | float],
) -> Followed:
    """Apply the rule to each of this process's parts alone, and take the mean over all processes' parts.

    A part counts as many times as it has samples, or by its share. Every part starts from what the rule remembers of
    the steps before. Afterwards the rule remembers the mean, so that it is the same in every process.
    """
    before = rule.state
    sums: dict[tuple[str, str], torch.Tensor] = {}
    finite, reached = [], [False] * len(context.parameters.tensors)
    for number, (backward_pass, share) in enumerate(zip(passes, shares, strict=True)):
        rule.state = dict(before)
        part = number * context.processes + context.process_index
        evaluations = Evaluations(context, backward_pass, part, share)
        with evaluations.parameters_restored():
            direction = rule.direction(evaluations)
        values = {("direction", ""): direction, ("weight", ""): torch.ones_like(evaluations.weight)}
        values |= {("metrics", name): value for name, value in (evaluations.metrics() | rule.reported).items()}
        values |= {("state", name): value for name, value in rule.state.items() if value.is_floating_point()}
        for key, value in values.items():
            weighted = evaluations.weight.to(direction) * value.to(direction)
            sums[key] = sums[key] + weighted if key in sums else weighted
        finite.append(evaluations.finite())
        reached = [before or now for before, now in zip(reached, evaluations.reached, strict=True)]
    sums["finite", ""] = torch.stack(finite).all().to(sums["direction", ""])
    if context.processes > 1:
        sums, reached = _reduce(context, sums, reached)
    weight = sums["weight", ""]
    rule.state |= {name: value / weight for (kind, name), value in sums.items() if kind == "state"}
    metrics = {name: value / weight for (kind, name), value in sums.items() if kind == "metrics"}
    return Followed(sums["direction", ""] / weight, metrics, reached, sums["finite", ""] == 1)


def _reduce(
    context: StepContext, sums: dict[tuple[str, str], torch.Tensor], reached: list[bool]
) -> tuple[dict[tuple[str, str], torch.Tensor], list[bool]]:
    """Take means over the processes, as one tensor."""
    flat = torch.cat([*(value.reshape(-1) for value in sums.values()), sums["weight", ""].new_tensor(reached)])
    *values, flags = context.reduce(flat).split([*(value.numel() for value in sums.values()), len(reached)])
    if not all(reached):  # Otherwise there is nothing to learn, and no reason to wait for the device.
        reached = [flag > 0 for flag in flags.tolist()]
    return {key: value.view_as(sums[key]) for key, value in zip(sums, values, strict=True)}, reached
