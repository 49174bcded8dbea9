from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class SAGM(SharpnessRule, name="sagm"):
    """Sharpness-aware gradient matching: the two gradients are made to agree while both are followed.

    `d = (g + g(ρ·u(g) - α·g)) / 2`

    Args:
        rho: Perturbation radius (paper: 0.05).
        alpha: Weight of the matching (paper: 0.001).

    Cost:
        2 gradient evaluations per step.

    When:
        Domain generalisation, for which it was made.

    Reference:
        Wang et al., "Sharpness-Aware Gradient Matching for Domain Generalization", CVPR 2023,
        https://arxiv.org/abs/2303.10396. The released code averages the two gradients, and so does this.
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.001, low=0, help="Weight of the gradient matching.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        return (g + gradient(offset=self.rho * unit(g) - self.alpha * g)) / 2
