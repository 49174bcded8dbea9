from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import cosine, unit


@dataclass
class GCSAM(SharpnessRule, name="gcsam"):
    """Gradient-constrained SAM (GCSCoOp): follow g, g_p or their bisector, by how well the two agree.

    With `g_p = g(ρ·u(g))`, `c = cos(g, g_p)` and `ẑ = u(g + g_p)`:

        d = g           if c ≤ low   (this branch does not exist with low ≤ 0)
        d = (g_p·ẑ) ẑ   if low < c < high
        d = g_p         if c ≥ high

    Reports the share of steps in each branch: `branch_gradient`, `branch_bisector`, `branch_perturbed`.

    Args:
        rho: Perturbation radius, in units of the parameters (paper: 0.1; the released scripts also run 8.0).
        low: Cosine up to which the two disagree too much to leave g (paper: 0.5).
        high: Cosine from which the two agree (paper: 0.8).

    Cost:
        2 gradient evaluations per step.

    When:
        Prompts and radii so large that the perturbed gradient often points elsewhere.

    Reference:
        Liu et al., "Gradient Constrained Sharpness-aware Prompt Learning for Vision-Language Models", IEEE TMM 2024,
        https://arxiv.org/abs/2309.07866. The released code treats each tensor separately; on the one context tensor
        that it trains this is the same.

    Related:
        `sam` is the last branch alone.
    """

    rho: float = hyperparameter(0.1, low=0, help="Perturbation radius.")
    low: float = hyperparameter(0.5, low=-1, high=1, help="Cosine up to which the gradient itself is followed.")
    high: float = hyperparameter(0.8, low=-1, high=1, help="Cosine from which the perturbed gradient is followed.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"gcsam: low must not exceed high, got low={self.low} and high={self.high}.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        g_p = gradient(offset=self.rho * unit(g))
        z = unit(g + g_p)
        c = cosine(g, g_p)
        disagree = (c <= self.low) & (self.low > 0)
        agree = c >= self.high
        self.reported = {
            "branch_gradient": disagree,
            "branch_bisector": ~(disagree | agree),
            "branch_perturbed": agree & ~disagree,
        }
        # Chosen without a branch in Python, which would wait for the accelerator.
        return torch.where(disagree, g, torch.where(agree, g_p, (g_p @ z) * z))
