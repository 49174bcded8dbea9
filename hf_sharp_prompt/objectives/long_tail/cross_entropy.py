from __future__ import annotations

from dataclasses import dataclass

import torch

from .loss import LongTailLoss


@dataclass(eq=False)
class CrossEntropy(LongTailLoss, name="cross_entropy"):
    """Plain cross entropy: the baseline of the other losses, and what DRW re-weights.

    Args:
        counts: n_c, the number of training samples of each class, by label.
    """

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits
