from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import reject, unit


@dataclass
class GSAM(SharpnessRule, name="gsam"):
    """Surrogate-gap guided SAM: lower the perturbed loss, and the gap to it without raising the perturbed loss.

    `d = g_p - α·g⊥`, `g_p = g(ρ·u(g))`, `g⊥` the part of `g` orthogonal to `g_p`

    Args:
        rho: Perturbation radius (paper: 0.05); the paper lets it follow the learning rate.
        alpha: Weight of the gap (paper: 0.4).

    Cost:
        2 gradient evaluations per step.

    When:
        Long runs, where the surrogate gap matters; with `rho_schedule="learning_rate"` as in the paper.

    Reference:
        Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training", ICLR 2022,
        https://arxiv.org/abs/2203.08065
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.4, low=0, help="Weight of the surrogate gap.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        g_p = gradient(offset=self.rho * unit(g))
        return g_p - self.alpha * reject(g, g_p)
