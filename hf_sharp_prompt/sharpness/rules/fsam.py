from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class FriendlySAM(SharpnessRule, name="fsam"):
    """Friendly SAM: perturb along the batch's own noise, without the full gradient's share of it.

    `d = g(ρ·u(g - σ·m))`, then `m ← λ·m + (1-λ)·g`; at the first step `m = g`, and g itself perturbs.

    Args:
        rho: Perturbation radius (paper: 0.05).
        sigma: How much of the running mean is taken out (paper: 1).
        decay: λ, the decay of the running mean (paper: 0.9).

    Cost:
        2 gradient evaluations per step, and a vector of state.

    When:
        Small batches, whose noise is what generalises.

    Reference:
        Li et al., "Friendly Sharpness-Aware Minimization", CVPR 2024, https://arxiv.org/abs/2403.12350
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    sigma: float = hyperparameter(1.0, low=0, help="Share of the running mean taken out.")
    decay: float = hyperparameter(0.9, low=0, high=1, help="Decay of the running mean.", formerly="lmbda")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        m = self.state.get("mean")
        direction = gradient(offset=self.rho * unit(g if m is None else g - self.sigma * m))
        self.state["mean"] = g if m is None else self.decay * m + (1 - self.decay) * g
        return direction
