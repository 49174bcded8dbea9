from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter


@dataclass
class GNM(SharpnessRule, name="gnm"):
    """Gaussian neighbourhood minimisation (RSAM-PT, GNM-PT): the gradient at a random neighbour.

    `d = g(ρ·σ·ξ)`, ξ normal with standard deviation 1/3, each element clipped to [-1, 1]; σ is halved at every
    re-weighting stage. (In the released code σ is also twice as large in epoch 0, because the exponent
    `(epoch - 1) // 59` is -1 there. This is an accident and is not followed.)

    Args:
        rho: Perturbation radius (paper: 0.05).
        sigma: Scale of the noise before any re-weighting (paper: 0.1).

    Cost:
        1 gradient evaluation per step.

    When:
        Long tails, where the gradient, and so SAM's worst point, is the head classes'; and where SAM costs too much.

    Reference:
        Li et al., "Improving Visual Prompt Tuning by Gaussian Neighborhood Minimization for Long-Tailed Visual
        Recognition", NeurIPS 2024, https://arxiv.org/abs/2410.21042
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    sigma: float = hyperparameter(0.1, low=0, help="Scale of the noise at first.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        xi = (gradient.draw_normal() / 3).clamp(-1, 1)
        return gradient(offset=self.rho * self.sigma * 0.5**gradient.reweighting_stage * xi)
