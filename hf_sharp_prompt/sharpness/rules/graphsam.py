from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class GraphSAM(SharpnessRule, name="graphsam"):
    """GraphSAM: the perturbation is computed once per epoch and then followed from the directions themselves.

    At the first step of an epoch `m = g` and `ε = ρ·u(g)`; later `m ← (1-α)·u(d_last) + α·m` and `ε = radius·u(m)`;
    `d = g(ε)`.

    Args:
        rho: Perturbation radius at an epoch's first step (paper: 0.05).
        radius: Perturbation radius of the others (paper: 0.05).
        alpha: Decay of the running direction (paper: 0.99).

    Cost:
        1 + 1/(steps per epoch) gradient evaluations per step, and two vectors of state.

    When:
        SAM at nearly the price of plain training, where gradients turn slowly.

    Reference:
        Wang et al., "Efficient Sharpness-Aware Minimization for Molecular Graph Transformer Models" (GraphSAM), ICLR
        2024. The released code treats each tensor separately.
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius at an epoch's first step.")
    radius: float = hyperparameter(0.05, low=0, help="Perturbation radius of the other steps.")
    alpha: float = hyperparameter(0.99, low=0, high=1, help="Decay of the running direction.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        if int(self.state.get("epoch", -1)) != gradient.epoch:
            m = gradient()
            direction = gradient(offset=self.rho * unit(m))
        else:
            m = (1 - self.alpha) * unit(self.state["last"]) + self.alpha * self.state["mean"]
            direction = gradient(offset=self.radius * unit(m))
        self.state.update(mean=m, last=direction, epoch=torch.tensor(gradient.epoch))
        return direction
