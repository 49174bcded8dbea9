from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import project, unit


@dataclass
class SAMPLe(SharpnessRule, name="sample"):
    """SAMPLe: both gradients, the perturbation turned away from the batch's own noise.

    `m ← λ·m + (1-λ)·g` (from m = 0), `g_B = g - proj_m(g)`, `d = g + g(ρ·u(g) - α·g_B)`

    Args:
        rho: Perturbation radius (paper: 0.05; 0.1 for CoCoOp and MaPLe).
        alpha: Weight of the batch's noise (paper: 0.0015).
        decay: λ, the decay of the running mean (paper: 0.15).

    Cost:
        2 gradient evaluations per step, and a vector of state.

    When:
        Prompts that should keep novel classes; the best published average of SAM's variants on CoOp.

    Reference:
        Rajoli et al., "SAMPLe", equations 5 and 8 to 10 and table 5. There is no released code.
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.0015, low=0, help="Weight of the batch's noise.")
    decay: float = hyperparameter(0.15, low=0, high=1, help="Decay of the running mean.", formerly="lmbda")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        m = self.decay * self.state.get("mean", torch.zeros_like(g)) + (1 - self.decay) * g
        self.state["mean"] = m
        return g + gradient(offset=self.rho * unit(g) - self.alpha * (g - project(g, m)))
