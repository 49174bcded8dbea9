"""Random neighbours instead of the worst one."""

from dataclasses import dataclass

import torch

from .rule import Gradient, SharpnessRule, hyperparameter


@dataclass
class GNM(SharpnessRule, name="gnm"):
    """Gaussian neighbourhood minimisation (RSAM-PT, GNM-PT): the gradient at a random neighbour.

    `d = g(ρ·σ·ξ)`, ξ normal with standard deviation 1/3, each element clipped to [-1, 1]; σ is halved at every
    re-weighting stage. (In the released code σ is also twice as large in epoch 0, because the exponent
    `(epoch - 1) // 59` is -1 there; this is taken for an accident and not followed.)

    Args:
        rho: Perturbation radius (paper: 0.05).
        sigma: Scale of the noise before any re-weighting (paper: 0.1).

    Cost:
        1 gradient evaluation per step.

    When:
        Long tails, where the gradient, and so SAM's worst point, is the head classes'; and where SAM is too dear.

    Reference:
        Li et al., "Improving Visual Prompt Tuning by Gaussian Neighborhood Minimization for Long-Tailed Visual
        Recognition", NeurIPS 2024, https://arxiv.org/abs/2410.21042
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    sigma: float = hyperparameter(0.1, low=0, help="Scale of the noise at first.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        xi = (gradient.draw_normal() / 3).clamp(-1, 1)
        return gradient(offset=self.rho * self.sigma * 0.5**gradient.stage * xi)


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
