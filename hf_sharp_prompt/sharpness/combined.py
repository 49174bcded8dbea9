"""The gradient here and the gradient at the worst point nearby, combined."""

from dataclasses import dataclass

import torch

from .rule import Gradient, SharpnessRule, hyperparameter
from .vectors import cosine, reject, unit


@dataclass
class GCSAM(SharpnessRule, name="gcsam"):
    """Gradient-constrained SAM (GCSCoOp): follow g, g_p or their bisector, by how well the two agree.

    With `g_p = g(ρ·u(g))`, `c = cos(g, g_p)` and `ẑ = u(g + g_p)`:

        d = g           if c ≤ low   (this branch does not exist with low ≤ 0)
        d = (g_p·ẑ) ẑ   if low < c < high
        d = g_p         if c ≥ high

    Reports the share of steps in each branch: `branch_gradient`, `branch_bisector`, `branch_perturbed`.

    Args:
        rho: Perturbation radius, in units of the parameters (paper: 0.1; the released scripts also run 8.0).
        low: Cosine up to which the two disagree too much to leave g (paper: 0.5).
        high: Cosine from which the two agree (paper: 0.8).

    Cost:
        2 gradient evaluations per step.

    When:
        Prompts and radii so large that the perturbed gradient often points elsewhere.

    Reference:
        Liu et al., "Gradient Constrained Sharpness-aware Prompt Learning for Vision-Language Models", IEEE TMM 2024,
        https://arxiv.org/abs/2309.07866. The released code treats each tensor by itself; on the one context tensor
        that it trains this is the same.

    Related:
        `sam` is the last branch alone.
    """

    rho: float = hyperparameter(0.1, low=0, help="Perturbation radius.")
    low: float = hyperparameter(0.5, low=-1, high=1, help="Cosine up to which the gradient itself is followed.")
    high: float = hyperparameter(0.8, low=-1, high=1, help="Cosine from which the perturbed gradient is followed.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"gcsam: low must not exceed high, got low={self.low} and high={self.high}.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        g_p = gradient(offset=self.rho * unit(g))
        z = unit(g + g_p)
        c = cosine(g, g_p)
        disagree = (c <= self.low) & (self.low > 0)
        agree = c >= self.high
        self.reported = {
            "branch_gradient": disagree,
            "branch_bisector": ~(disagree | agree),
            "branch_perturbed": agree & ~disagree,
        }
        # Chosen without a branch in Python, which would wait for the accelerator.
        return torch.where(disagree, g, torch.where(agree, g_p, (g_p @ z) * z))


@dataclass
class GSAM(SharpnessRule, name="gsam"):
    """Surrogate-gap guided SAM: lower the perturbed loss, and the gap to it without raising the perturbed loss.

    `d = g_p - α·g⊥`, `g_p = g(ρ·u(g))`, `g⊥` the part of `g` orthogonal to `g_p`

    Args:
        rho: Perturbation radius (paper: 0.05); the paper lets it follow the learning rate.
        alpha: Weight of the gap (paper: 0.4).

    Cost:
        2 gradient evaluations per step.

    When:
        Long runs, where the surrogate gap matters; with `rho_schedule="learning_rate"` as in the paper.

    Reference:
        Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training", ICLR 2022,
        https://arxiv.org/abs/2203.08065
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.4, low=0, help="Weight of the surrogate gap.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        g_p = gradient(offset=self.rho * unit(g))
        return g_p - self.alpha * reject(g, g_p)


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


@dataclass
class SAGM(SharpnessRule, name="sagm"):
    """Sharpness-aware gradient matching: the two gradients are made to agree while both are followed.

    `d = (g + g(ρ·u(g) - α·g)) / 2`

    Args:
        rho: Perturbation radius (paper: 0.05).
        alpha: Weight of the matching (paper: 0.001).

    Cost:
        2 gradient evaluations per step.

    When:
        Domain generalisation, for which it was made.

    Reference:
        Wang et al., "Sharpness-Aware Gradient Matching for Domain Generalization", CVPR 2023,
        https://arxiv.org/abs/2303.10396. The released code averages the two gradients, and so does this.
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.001, low=0, help="Weight of the gradient matching.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        return (g + gradient(offset=self.rho * unit(g) - self.alpha * g)) / 2


@dataclass
class CRSAM(SharpnessRule, name="crsam"):
    """Curvature-regularised SAM: the points uphill and downhill show the curvature, which is penalised.

    With `g_+ = g(ρ·u(g))` and `g_- = g(-ρ·u(g))`:

        d = g_+ + γ·(g_+ + g_- - 2g) + β·(g_+ - g_-)

    Args:
        rho: Perturbation radius (paper: 0.1).
        gamma: Weight of the second difference (paper: 0.1).
        beta: Weight of the first difference (paper and released optimizer: 0.1; the released script: 0.01).

    Cost:
        3 gradient evaluations per step.

    When:
        SAM's linear view of the neighbourhood is too coarse, as late in training.

    Reference:
        Wu et al., "CR-SAM: Curvature Regularized Sharpness-Aware Minimization", AAAI 2024,
        https://arxiv.org/abs/2312.13555; the released optimizer's form.
    """

    rho: float = hyperparameter(0.1, low=0, help="Perturbation radius.")
    gamma: float = hyperparameter(0.1, low=0, help="Weight of the second difference.")
    beta: float = hyperparameter(0.1, low=0, help="Weight of the first difference.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        uphill = gradient(offset=self.rho * unit(g))
        downhill = gradient(offset=-self.rho * unit(g))
        return uphill + self.gamma * (uphill + downhill - 2 * g) + self.beta * (uphill - downhill)
