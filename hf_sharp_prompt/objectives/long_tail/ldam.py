from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import one_hot

from .loss import LongTailLoss


class LDAM(LongTailLoss):
    """Label-distribution-aware margins: the true class has to win by a margin, the rarer the wider.

    `z_y - s·Δ_y`, `Δ_c ∝ n_c^(-1/4)`, the largest Δ being `max_margin`; for logits z = s·cosine.

    Args:
        counts: n_c, the training samples of each class, by label.
        max_margin: Of the rarest class, as a cosine (paper: 0.5).
        scale: s, the model's (paper: 30).

    Reference:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        https://arxiv.org/abs/1906.07413
    """

    def __init__(self, counts: Sequence[int], max_margin: float = 0.5, scale: float = 30.0) -> None:
        super().__init__(counts)
        margins = self.counts**-0.25
        self.margins = margins * (max_margin / margins.max())
        self.scale = scale

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        true = one_hot(labels, len(self.counts)).to(logits)
        return logits - self.scale * self.margins.to(logits) * true
