from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import one_hot

from ...hyperparameters import hyperparameter
from .loss import LongTailLoss


@dataclass(eq=False)
class LDAM(LongTailLoss, name="ldam"):
    """Label-distribution-aware margins: the true class has to win by a margin, the rarer the wider.

    `z_y - s·Δ_y`, `Δ_c ∝ n_c^(-1/4)`, the largest Δ being `max_margin`; for logits z = s·cosine.

    Args:
        counts: n_c, the number of training samples of each class, by label.
        max_margin: The margin of the rarest class, as a cosine (paper: 0.5).
        scale: s, the scale of the model's logits (paper: 30).

    Reference:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        https://arxiv.org/abs/1906.07413
    """

    max_margin: float = hyperparameter(0.5, low=0, help="Margin of the rarest class, as a cosine.")
    scale: float = hyperparameter(30.0, above=0, help="Scale of the model's logits.")

    def __post_init__(self, counts: Sequence[int]) -> None:
        super().__post_init__(counts)
        margins = self.class_counts**-0.25
        self.margins = margins * (self.max_margin / margins.max())

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        true = one_hot(labels, len(self.class_counts)).to(logits)
        return logits - self.scale * self.margins.to(logits) * true
