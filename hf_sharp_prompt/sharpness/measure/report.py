"""How sharp is the minimum that was found?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

from ..vectors import unit
from .surface import Loss, LossSurface, open_surface


@dataclass(frozen=True)
class Neighbourhood:
    """The loss within a radius rho of w.

    Attributes:
        worst: The largest loss found within rho: a lower bound on the largest there is.
        mean: The mean loss over directions drawn uniformly, at distance rho.
        mean_error: The standard error of `mean`.
    """

    worst: float
    mean: float
    mean_error: float


@dataclass(frozen=True)
class SharpnessReport:
    """What `report` measured around the parameters w; printed, it is a Markdown table.

    Attributes:
        loss: `L(w)`.
        gradient_norm: `‖∇L(w)‖`.
        within: For every radius rho, ascending, the loss within it.
        top_eigenvalue: The largest eigenvalue of the Hessian `∇²L(w)`.
        top_eigenvalue_error: The residual `‖Hv - λv‖` of its eigenvector: an eigenvalue lies within this distance.
        trace: The Hessian's trace.
        trace_error: The standard error of `trace`.
        size: How many numbers w is.
        samples: How many samples the loss is the mean of.
    """

    loss: float
    gradient_norm: float
    within: dict[float, Neighbourhood]
    top_eigenvalue: float
    top_eigenvalue_error: float
    trace: float
    trace_error: float
    size: int
    samples: int

    def __str__(self) -> str:
        rows = [("loss", f"{self.loss:.4g}"), ("gradient norm", f"{self.gradient_norm:.4g}")]
        for rho, of in self.within.items():
            rows.append((f"worst loss found within {rho:g}", f"{of.worst:.4g}"))
            rows.append((f"mean loss at distance {rho:g}", f"{of.mean:.4g} ± {of.mean_error:.2g}"))
        rows.append(("top Hessian eigenvalue", f"{self.top_eigenvalue:.4g} ± {self.top_eigenvalue_error:.2g}"))
        rows.append(("Hessian trace", f"{self.trace:.4g} ± {self.trace_error:.2g}"))
        head = f"| {self.size} parameters, {self.samples} samples | |\n|---|---|\n"
        return head + "\n".join(f"| {name} | {value} |" for name, value in rows)


def report(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    loss: Loss | None = None,
    rhos: Sequence[float] = (0.05, 0.1, 0.5, 1.0),
    ascent_steps: int = 10,
    directions: int = 10,
    probes: int = 30,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    parameters: Iterable[nn.Parameter] | None = None,
    seed: int = 0,
) -> SharpnessReport:
    """Measure how sharp a model's loss is around its parameters w, all as one flat vector.

    - The worst loss within rho, `max L(w + ε)` over `‖ε‖ ≤ rho`, as far as ascent finds it: `ascent_steps` times
      `ε ← Π(ε + rho/2·u(∇L(w + ε)))`, where Π projects onto the ball, from SAM's point `rho·u(∇L(w))` or, where the
      loss is larger there, from the worst of the random points or of a smaller radius. The largest loss at any point
      seen within rho counts: a lower bound, never below the mean, that does not fall with rho.
    - The mean loss at distance rho, over `directions` directions drawn uniformly, the same for every rho.
    - The Hessian's largest eigenvalue, by power iteration, shifted where the largest in magnitude is negative.
    - The Hessian's trace, by Hutchinson's estimator: the mean of `zᵀHz` over `probes` vectors z of random signs.

    During the measurement the model is in evaluation mode. Afterwards, whatever happens, its parameters, `.grad`,
    buffers and modes and the random generators are as before. The same seed gives the same report. In half precision
    the Hessian says little; convert the model first.

    Args:
        model: Any model, with an adapter or without.
        loader: Batches, of any sizes; every sample counts the same. They are read once and kept in memory.
        loss: `loss(model, batch)` → the batch's mean loss, or the losses of its samples, a vector. By default the
            model's own: `model(**batch).loss`.
        rhos: Radii, in units of the parameters.
        ascent_steps: Steps of ascent per radius.
        directions: Random directions, at least 2.
        probes: Random vectors for the trace, at least 2.
        tolerance: Power iteration ends when `‖Hv - λv‖` is below this share of the largest eigenvalue in magnitude;
            λ itself is then mostly far closer.
        max_iterations: The most iterations of the power method; twice that where it has to be shifted.
        parameters: The parameters to look at; all others stay fixed. By default those with `requires_grad`;
            load an adapter with `is_trainable=True` for its own.
        seed: Seeds all that is random.

    Returns:
        A [`SharpnessReport`].

    Raises:
        ValueError: No parameters; no batches; no loss, or one that is not finite or does not depend on the
            parameters; a radius that is not a positive number; too few directions, probes or iterations.
        RuntimeError: Some operation of the model cannot be differentiated twice.

    Cost:
        Over the whole loader: for every rho `directions + ascent_steps + 1` losses and `ascent_steps` gradients, and
        for the Hessian up to `probes + max_iterations` products, each of about two gradients.

    Reference:
        The worst loss: Foret et al., https://arxiv.org/abs/2010.01412. The trace: Hutchinson, "A Stochastic Estimator
        of the Trace of the Influence Matrix", 1990.

    Example:
        ```py
        >>> model = PeftModel.from_pretrained(clip, "me/pets-gcscoop", is_trainable=True)
        >>> print(report(model, loader, rhos=(0.1, 0.5)))
        ```
    """
    for rho in rhos:
        if not (math.isfinite(rho) and rho > 0):
            raise ValueError(f"rhos must be positive numbers, got {rho!r}.")
    for name, value, least in (
        ("ascent_steps", ascent_steps, 0),
        ("directions", directions, 2),
        ("probes", probes, 2),
        ("max_iterations", max_iterations, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
    with open_surface(model, loader, loss, parameters, seed) as surface:
        within = _look_within(surface, sorted(rhos), ascent_steps, directions, seed)
        top_eigenvalue, top_eigenvalue_error = _find_top_eigenvalue(surface, tolerance, max_iterations, seed)
        return SharpnessReport(
            surface.loss_here,
            float(surface.gradient_here.norm()),
            within,
            top_eigenvalue,
            top_eigenvalue_error,
            *_estimate_trace(surface, probes, seed),
            surface.size,
            surface.samples,
        )


def _look_within(
    surface: LossSurface, rhos: Sequence[float], ascent_steps: int, directions: int, seed: int
) -> dict[float, Neighbourhood]:
    """Return the loss within each of the ascending radii; what is found within one also counts for those after it."""
    within, worst, worst_offset = {}, surface.loss_here, torch.zeros_like(surface.gradient_here)

    def look_at(offset: torch.Tensor) -> float:
        nonlocal worst, worst_offset
        loss = surface.loss(offset)
        if loss > worst:
            worst, worst_offset = loss, offset
        return loss

    for rho in rhos:
        generator = torch.Generator().manual_seed(seed)
        losses = [look_at(rho * unit(surface.draw(generator))) for _ in range(directions)]
        look_at(rho * unit(surface.gradient_here))
        offset = worst_offset
        for _ in range(ascent_steps):
            _, gradient = surface.loss_and_gradient(offset)
            offset = offset + rho / 2 * unit(gradient)
            offset = offset / max(1.0, float(offset.norm()) / rho)
            look_at(offset)
        within[rho] = Neighbourhood(worst, *_mean_and_error(losses))
    return within


def _find_top_eigenvalue(
    surface: LossSurface, tolerance: float, max_iterations: int, seed: int
) -> tuple[float, float]:
    """Return the Hessian's largest eigenvalue and its residual, by power iteration."""
    generator = torch.Generator().manual_seed(seed)
    eigenvalue, error, magnitude = _iterate(surface, surface.draw(generator), tolerance, max_iterations)
    if eigenvalue >= 0 and error <= tolerance * eigenvalue:
        return eigenvalue, error
    # The largest in magnitude is negative, or hardly larger than one that is. Shifted, no eigenvalue is negative.
    shifted, error_there, _ = _iterate(surface, surface.draw(generator), tolerance, max_iterations, shift=magnitude)
    return max((eigenvalue, error), (shifted, error_there))


def _iterate(
    surface: LossSurface, v: torch.Tensor, tolerance: float, max_iterations: int, shift: float = 0.0
) -> tuple[float, float, float]:
    """Return the Hessian's largest eigenvalue in magnitude after adding the shift, its residual, and `‖Hv‖`."""
    for _ in range(max_iterations):
        v = unit(v)
        product = surface.hessian_times(v)
        eigenvalue = float(v @ product)
        residual = float((product - eigenvalue * v).norm())
        if residual <= tolerance * (shift or abs(eigenvalue)):
            break
        v = product + shift * v
    return eigenvalue, residual, float(product.norm())


def _estimate_trace(surface: LossSurface, probes: int, seed: int) -> tuple[float, float]:
    """Return the Hessian's trace and its standard error, by Hutchinson's estimator."""
    generator = torch.Generator().manual_seed(seed)
    signs = (surface.draw(generator, signs=True) for _ in range(probes))
    return _mean_and_error([float(z @ surface.hessian_times(z)) for z in signs])


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return mean(values), stdev(values) / len(values) ** 0.5
