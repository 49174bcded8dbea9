from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class GNP(SharpnessRule, name="gnp"):
    """Gradient-norm penalty: the gradient of `L + λ‖∇L‖`, by finite differences.

    `d = (1-α)·g + α·g(ρ·u(g))`

    Args:
        rho: Step of the finite difference (paper: 0.05).
        alpha: λ/ρ, the weight of the perturbed gradient (paper: 0.8); 1 is `sam`.

    Cost:
        2 gradient evaluations per step.

    When:
        SAM costs accuracy on what is trained; alpha moves between the two.

    Reference:
        Zhao et al., "Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning", ICML 2022,
        https://arxiv.org/abs/2202.03599
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.8, low=0, high=1, help="Weight of the perturbed gradient.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        return (1 - self.alpha) * g + self.alpha * gradient(offset=self.rho * unit(g))
