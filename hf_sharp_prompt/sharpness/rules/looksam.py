from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import EPSILON, reject, unit


@dataclass
class LookSAM(SharpnessRule, name="looksam"):
    """LookSAM: SAM every k-th step; in between, what it added to the gradient is reused.

    Every k-th step `d = g_p = g(ρ·u(g))`, remembering `g_v`, the part of `g_p` orthogonal to `g`; between,
    `d = g + α·(‖g‖/‖g_v‖)·g_v`.

    Args:
        rho: Perturbation radius (paper: 0.1).
        k: Steps from one SAM step to the next, a whole number (paper: 5).
        alpha: Weight of what is reused (paper: 0.7).

    Cost:
        1 + 1/k gradient evaluations per step, and a vector of state.

    When:
        SAM's second evaluation costs too much.

    Reference:
        Liu et al., "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR 2022,
        https://arxiv.org/abs/2203.02714
    """

    rho: float = hyperparameter(0.1, low=0, help="Perturbation radius.")
    k: int = hyperparameter(5, low=1, help="Steps from one SAM step to the next.")
    alpha: float = hyperparameter(0.7, low=0, help="Weight of the reused part.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        step = int(self.state.get("step", 0))
        self.state["step"] = torch.tensor(step + 1)
        if step % self.k:
            g_v = self.state["orthogonal"]
            return g + self.alpha * g.norm() / (g_v.norm() + EPSILON) * g_v
        g_p = gradient(offset=self.rho * unit(g))
        self.state["orthogonal"] = reject(g_p, g)
        return g_p
