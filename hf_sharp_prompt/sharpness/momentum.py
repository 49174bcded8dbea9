"""Directions that remember: rules that perturb along, or reuse, what earlier steps saw."""

from dataclasses import dataclass

import torch

from .rule import Gradient, SharpnessRule, hyperparameter
from .vectors import EPSILON, project, reject, unit


@dataclass
class FriendlySAM(SharpnessRule, name="fsam"):
    """Friendly SAM: perturb along the batch's own noise, without the full gradient's share of it.

    `d = g(ρ·u(g - σ·m))`, then `m ← λ·m + (1-λ)·g`; at the first step `m = g`, and g itself perturbs.

    Args:
        rho: Perturbation radius (paper: 0.05).
        sigma: How much of the running mean is taken out (paper: 1).
        lmbda: Decay of the running mean (paper: 0.9).

    Cost:
        2 gradient evaluations per step, and a vector of state.

    When:
        Small batches, whose noise is what generalises.

    Reference:
        Li et al., "Friendly Sharpness-Aware Minimization", CVPR 2024, https://arxiv.org/abs/2403.12350
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    sigma: float = hyperparameter(1.0, low=0, help="Share of the running mean taken out.")
    lmbda: float = hyperparameter(0.9, low=0, high=1, help="Decay of the running mean.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        m = self.state.get("mean")
        direction = gradient(offset=self.rho * unit(g if m is None else g - self.sigma * m))
        self.state["mean"] = g if m is None else self.lmbda * m + (1 - self.lmbda) * g
        return direction


@dataclass
class SAMPLe(SharpnessRule, name="sample"):
    """SAMPLe: both gradients, the perturbation turned away from the batch's own noise.

    `m ← λ·m + (1-λ)·g` (from m = 0), `g_B = g - proj_m(g)`, `d = g + g(ρ·u(g) - α·g_B)`

    Args:
        rho: Perturbation radius (paper: 0.05; 0.1 for CoCoOp and MaPLe).
        alpha: Weight of the batch's noise (paper: 0.0015).
        lmbda: Decay of the running mean (paper: 0.15).

    Cost:
        2 gradient evaluations per step, and a vector of state.

    When:
        Prompts that should keep novel classes; the best published average among SAM's kin on CoOp.

    Reference:
        Rajoli et al., "SAMPLe", equations 5 and 8 to 10 and table 5. There is no released code.
    """

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    alpha: float = hyperparameter(0.0015, low=0, help="Weight of the batch's noise.")
    lmbda: float = hyperparameter(0.15, low=0, high=1, help="Decay of the running mean.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        m = self.lmbda * self.state.get("mean", torch.zeros_like(g)) + (1 - self.lmbda) * g
        self.state["mean"] = m
        return g + gradient(offset=self.rho * unit(g) - self.alpha * (g - project(g, m)))


@dataclass
class LookSAM(SharpnessRule, name="looksam"):
    """LookSAM: SAM every k-th step; in between, what it added to the gradient is reused.

    Every k-th step `d = g_p = g(ρ·u(g))`, remembering `g_v`, the part of `g_p` orthogonal to `g`; between,
    `d = g + α·(‖g‖/‖g_v‖)·g_v`.

    Args:
        rho: Perturbation radius (paper: 0.1).
        k: Steps from one SAM step to the next, a whole number (paper: 5).
        alpha: Weight of what is reused (paper: 0.7).

    Cost:
        1 + 1/k gradient evaluations per step, and a vector of state.

    When:
        SAM's second evaluation is too dear.

    Reference:
        Liu et al., "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR 2022,
        https://arxiv.org/abs/2203.02714
    """

    rho: float = hyperparameter(0.1, low=0, help="Perturbation radius.")
    k: int = hyperparameter(5, low=1, help="Steps from one SAM step to the next.")
    alpha: float = hyperparameter(0.7, low=0, help="Weight of the reused part.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        step = int(self.state.get("step", 0))
        self.state["step"] = torch.tensor(step + 1)
        if step % self.k:
            g_v = self.state["orthogonal"]
            return g + self.alpha * g.norm() / (g_v.norm() + EPSILON) * g_v
        g_p = gradient(offset=self.rho * unit(g))
        self.state["orthogonal"] = reject(g_p, g)
        return g_p


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
        2024. The released code treats each tensor by itself.
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
