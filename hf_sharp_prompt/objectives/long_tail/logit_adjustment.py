from __future__ import annotations

from collections.abc import Sequence

import torch

from .loss import LongTailLoss


class LogitAdjustment(LongTailLoss):
    """Logit adjustment: what the classes' frequencies explain the logits need not.

    `z_c + τ·log π_c`, `π_c = n_c / Σ n`.

    Args:
        counts: n_c, the training samples of each class, by label.
        tau: τ; 1 is what minimises the balanced error (paper: 1).

    Reference:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314
    """

    def __init__(self, counts: Sequence[int], tau: float = 1.0) -> None:
        super().__init__(counts)
        self.offsets = tau * (self.counts / self.counts.sum()).log()

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits + self.offsets.to(logits)
