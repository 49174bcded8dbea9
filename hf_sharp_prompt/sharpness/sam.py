"""Plain descent, and descent on the gradient of the worst point nearby."""

from dataclasses import dataclass

import torch

from .rule import Gradient, SharpnessRule, hyperparameter
from .vectors import unit


@dataclass
class ERM(SharpnessRule, name="none"):
    """No sharpness: empirical risk minimisation.

    `d = g`

    Cost:
        1 gradient evaluation per step.
    """

    def direction(self, gradient: Gradient) -> torch.Tensor:
        return gradient()


@dataclass
class SAM(SharpnessRule, name="sam"):
    """Sharpness-aware minimisation: the gradient at the approximately worst point within radius rho.

    `d = g(ρ·u(g))`

    Args:
        rho: Perturbation radius, in units of the parameters (paper: 0.05).

    Cost:
        2 gradient evaluations per step.

    Reference:
        Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
        https://arxiv.org/abs/2010.01412
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        return gradient(offset=self.rho * unit(gradient()))
