from __future__ import annotations

from dataclasses import dataclass

import torch

from .loss import LongTailLoss


@dataclass(eq=False)
class BalancedSoftmax(LongTailLoss, name="balanced_softmax"):
    """Balanced softmax: `n_c·exp(z_c) / Σ n_k·exp(z_k)`, which is logit adjustment with τ = 1.

    Args:
        counts: n_c, the number of training samples of each class, by label.

    Reference:
        Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020,
        https://arxiv.org/abs/2007.10740
    """

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits + self.log_priors.to(logits)
