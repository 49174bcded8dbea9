from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter


@dataclass
class RWP(SharpnessRule, name="rwp"):
    """Random weight perturbation: the mean of the loss over a Gaussian neighbourhood, mixed with the loss itself.

    `d = (1-α)·g + α·g(ξ)`, `ξ ~ N(0, (γ·‖filter‖)²)`: a filter is a row of a tensor with two or more dimensions,
    or else the whole tensor.

    Both gradients are of the same batch. The released code gives them to two processes with a batch each, doubles the
    epochs, and so takes as many steps from twice the images.

    Args:
        gamma: Scale of the noise relative to the filters' norms (paper: 0.01).
        alpha: Weight of the perturbed gradient (paper: 0.5).

    Cost:
        2 gradient evaluations per step, independent of each other.

    When:
        Wider neighbourhoods than SAM's, without following the gradient there.

    Reference:
        Li et al., "Efficient Generalization Improvement Guided by Random Weight Perturbation",
        https://arxiv.org/abs/2211.11489
    """

    gamma: float = hyperparameter(0.01, low=0, help="Scale of the noise, in filter norms.")
    alpha: float = hyperparameter(0.5, low=0, high=1, help="Weight of the perturbed gradient.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        xi = self.gamma * gradient.filter_norms() * gradient.draw_normal()
        return (1 - self.alpha) * gradient() + self.alpha * gradient(offset=xi)
