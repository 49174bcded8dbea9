from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class ImbSAM(SharpnessRule, name="imbsam"):
    """Class-imbalance SAM: plain descent for head classes, sharpness-aware for tail classes.

    With B the batch size, `g_h` the gradient of (Σ head losses)/B and `g_t` that of 2·(Σ tail losses)/B:

        d = g_h + g_t(ρ·u(g_t))

    Needs labels, and losses per sample.

    Args:
        rho: Perturbation radius (paper: 0.05).
        tail_classes: The class indices that count as tail.

    Cost:
        3 gradient evaluations per step: two of the tail samples' losses, one of the head samples'. In the Trainer each
        passes those samples alone through the model, so together 1 and the tail's share of the batch.

    When:
        Long tails, where only the tail overfits.

    Reference:
        Zhou et al., "ImbSAM: A Closer Look at Sharpness-Aware Minimization in Class-Imbalanced Recognition", ICCV
        2023, https://arxiv.org/abs/2308.07815; the factor 2 is the released code's.
    """

    tells_classes_apart = True

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    tail_classes: Sequence[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tail_classes:
            raise ValueError("imbsam: tail_classes must name the class indices that count as tail, e.g. [7, 8, 9].")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        def is_tail(labels: torch.Tensor) -> torch.Tensor:
            return torch.isin(labels, torch.tensor(self.tail_classes, device=labels.device))

        g_t = 2 * gradient(sample_mask=is_tail)
        g_h = gradient(sample_mask=lambda labels: ~is_tail(labels))
        return g_h + 2 * gradient(offset=self.rho * unit(g_t), sample_mask=is_tail)
