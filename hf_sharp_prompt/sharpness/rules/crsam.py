from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class CRSAM(SharpnessRule, name="crsam"):
    """Curvature-regularised SAM: the points uphill and downhill show the curvature, which is penalised.

    With `g_+ = g(ρ·u(g))` and `g_- = g(-ρ·u(g))`:

        d = g_+ + γ·(g_+ + g_- - 2g) + β·(g_+ - g_-)

    Args:
        rho: Perturbation radius (paper: 0.1).
        gamma: Weight of the second difference (paper: 0.1).
        beta: Weight of the first difference (paper and released optimizer: 0.1; the released script: 0.01).

    Cost:
        3 gradient evaluations per step.

    When:
        SAM's linear view of the neighbourhood is too coarse, as late in training.

    Reference:
        Wu et al., "CR-SAM: Curvature Regularized Sharpness-Aware Minimization", AAAI 2024,
        https://arxiv.org/abs/2312.13555; the released optimizer's form.
    """

    rho: float = hyperparameter(0.1, low=0, help="Perturbation radius.")
    gamma: float = hyperparameter(0.1, low=0, help="Weight of the second difference.")
    beta: float = hyperparameter(0.1, low=0, help="Weight of the first difference.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        uphill = gradient(offset=self.rho * unit(g))
        downhill = gradient(offset=-self.rho * unit(g))
        return uphill + self.gamma * (uphill + downhill - 2 * g) + self.beta * (uphill - downhill)
