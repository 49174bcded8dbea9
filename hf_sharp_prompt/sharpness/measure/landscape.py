"""The loss around a minimum, over a plane that can be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from ... import progress
from ..vectors import EPSILON, filter_norms
from .surface import Loss, LossSurface, open_surface


@dataclass(frozen=True)
class Landscape:
    """Losses over a plane through the parameters w, spanned by two directions d₁ and d₂.

    Attributes:
        losses: points × points, float64; `losses[i, j]` is `L(w + coordinates[i]·d₁ + coordinates[j]·d₂)`.
        coordinates: points, from `-span` to `span`.
        directions: d₁ and d₂, flat vectors.
    """

    losses: torch.Tensor
    coordinates: torch.Tensor
    directions: tuple[torch.Tensor, torch.Tensor]


def landscape(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    span: float = 1.0,
    points: int = 21,
    directions: Sequence[torch.Tensor] | None = None,
    loss: Loss | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    seed: int = 0,
) -> Landscape:
    """Return the loss over a plane of two random directions around a model's parameters w, filter-normalised.

    A direction is Gaussian noise in which every filter (a row of a tensor with two or more dimensions, such as a
    context token, or else a whole tensor) is scaled to the norm of the same filter of w. So 1 is a change as large as
    the parameters, and two minima can be compared whatever their scales. The same seed gives two models of the same
    shape the same noise, each scaled to its own filters; `directions` gives them the same plane.

    During the measurement the model is in evaluation mode. Afterwards all is as before, as with `report`.

    Args:
        model: Any model, with an adapter or without.
        loader: Batches, of any sizes; every sample counts the same. They are read once and kept in memory.
        span: How far to go from w, in filter norms.
        points: Along each axis; odd numbers have w itself in the middle.
        directions: d₁ and d₂, used as they are, such as another landscape's `directions`.
        loss: As in `report`.
        parameters: As in `report`.
        seed: Seeds all that is random.

    Returns:
        A [`Landscape`], for [`~hf_sharp_prompt.plots.plot_landscapes`].

    Raises:
        ValueError: As in `report`; a span that is not positive, fewer than two points, or directions that are not two
            flat vectors as long as w.

    Cost:
        points² losses over the whole loader, and one gradient.

    Reference:
        Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018, https://arxiv.org/abs/1712.09913

    Example:
        ```py
        >>> coop = landscape(model, loader)
        >>> gcscoop = landscape(other_model, loader)
        >>> plot_landscapes({"CoOp": coop, "GCSCoOp": gcscoop}, "landscapes.png")
        ```
    """
    if not span > 0:
        raise ValueError(f"span must be positive, got {span}.")
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}.")
    with open_surface(model, loader, loss, parameters, seed) as surface:
        first, second = _draw_directions(surface, seed) if directions is None else _check(directions, surface)
        coordinates = torch.linspace(-span, span, points, dtype=torch.float64)
        losses = torch.empty(points, points, dtype=torch.float64)
        for number, (i, j) in enumerate(product(range(points), repeat=2)):
            progress.report("mapping", number, points**2)
            losses[i, j] = surface.loss(float(coordinates[i]) * first + float(coordinates[j]) * second)
        return Landscape(losses, coordinates, (first, second))


def _draw_directions(surface: LossSurface, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        noise = surface.draw(generator)
        return noise * filter_norms(surface.origin) / (filter_norms(surface.split(noise)) + EPSILON)

    return draw(), draw()


def _check(directions: Sequence[torch.Tensor], surface: LossSurface) -> list[torch.Tensor]:
    shapes = [tuple(direction.shape) for direction in directions]
    if shapes != [(surface.size,)] * 2:
        raise ValueError(
            f"directions must be two flat vectors of the {surface.size} parameters' length, got shapes {shapes}. Only "
            "models of the same shape have a plane in common."
        )
    return [direction.to(surface.origin[0]) for direction in directions]
