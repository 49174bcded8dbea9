from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import one_hot

from .loss import LongTailLoss


class GCL(LongTailLoss):
    """Gaussian clouded logits: noise lowers the logits of rare classes, a margin that of the true class.

    `z_c - s·|ξ|·(log n_max - log n_c)/(log n_max - log n_min) - s·m·[c = y]`, for logits z = s·cosine; ξ is normal
    with a standard deviation of 1/3, clipped to [-1, 1], drawn for each sample and class. Equal counts have no noise.

    The noise is of torch's generator on the logits' device, so gradient evaluations that restore it, as those of one
    step do, see the same noise.

    Args:
        counts: n_c, the training samples of each class, by label.
        margin: m, as a cosine (RSAM-PT: 0.1; GCL's own code: 0.5 by default).
        scale: s, the model's (RSAM-PT: 25).

    Reference:
        Li et al., "Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment", CVPR 2022,
        https://arxiv.org/abs/2305.11733
    """

    def __init__(self, counts: Sequence[int], margin: float = 0.1, scale: float = 25.0) -> None:
        super().__init__(counts)
        rarity = self.counts.max().log() - self.counts.log()
        self.cloud_sizes = rarity / rarity.max().clamp(min=torch.finfo(rarity.dtype).tiny)
        self.margin = margin
        self.scale = scale

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        xi = (torch.randn_like(logits) / 3).clamp(-1, 1)
        true = one_hot(labels, len(self.counts)).to(logits)
        return logits - self.scale * (xi.abs() * self.cloud_sizes.to(logits) + self.margin * true)
