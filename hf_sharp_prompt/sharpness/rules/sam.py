from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class SAM(SharpnessRule, name="sam"):
    """Sharpness-aware minimisation: the gradient at the approximately worst point within radius rho.

    `d = g(ρ·u(g))`

    Args:
        rho: Perturbation radius, in units of the parameters (paper: 0.05).

    Cost:
        2 gradient evaluations per step.

    When:
        The first to try; rho is what matters.

    Reference:
        Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
        https://arxiv.org/abs/2010.01412
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        return gradient(offset=self.rho * unit(gradient()))
