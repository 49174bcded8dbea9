"""Plain descent, and descent on the gradient of the worst point nearby."""

from dataclasses import dataclass

import torch

from .rule import Gradient, SharpnessRule, hyperparameter
from .vectors import EPSILON, unit


@dataclass
class ERM(SharpnessRule, name="none"):
    """No sharpness: empirical risk minimisation.

    `d = g`

    Cost:
        1 gradient evaluation per step.

    When:
        The baseline.
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

    When:
        The first to try; rho is what matters.

    Reference:
        Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
        https://arxiv.org/abs/2010.01412
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        return gradient(offset=self.rho * unit(gradient()))


@dataclass
class ASAM(SharpnessRule, name="asam"):
    """Adaptive SAM: the neighbourhood scales with each parameter, so rescaling the network does not change it.

    `d = g(ε)`, `ε = ρ · w²⊙g / ‖|w|⊙g‖`

    Args:
        rho: Radius, relative to the parameters' magnitudes (paper: 0.5).

    Cost:
        2 gradient evaluations per step.

    When:
        Parameters of very different magnitudes train together.

    Reference:
        Kwon et al., "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
        Networks", ICML 2021, https://arxiv.org/abs/2102.11600

    Related:
        `sam` with one radius for all.
    """

    rho: float = hyperparameter(0.5, low=0, help="Radius relative to the parameters' magnitudes.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g, w = gradient(), gradient.weights
        return gradient(offset=self.rho * w * w * g / ((w * g).norm() + EPSILON))
