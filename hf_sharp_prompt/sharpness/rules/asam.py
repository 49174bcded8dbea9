from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import EPSILON


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
