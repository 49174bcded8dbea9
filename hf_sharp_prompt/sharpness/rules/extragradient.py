from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter


@dataclass
class Extragradient(SharpnessRule, name="extragradient"):
    """Extrapolation: the gradient where the last direction would lead, instead of where we are.

    `d = g(-η̂·d_last)`

    Args:
        scale: The extrapolation η̂ in learning rates (paper: 1).

    Cost:
        1 gradient evaluation per step, and a vector of state.

    When:
        Large batches; smoother steps at the price of plain training.

    Reference:
        Lin et al., "Extrapolation for Large-batch Training in Deep Learning", ICML 2020,
        https://arxiv.org/abs/2006.05720
    """

    scale: float = hyperparameter(1.0, low=0, help="Extrapolation, in learning rates.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        last = self.state.get("last")
        direction = gradient() if last is None else gradient(offset=-self.scale * gradient.learning_rate * last)
        self.state["last"] = direction
        return direction
