from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import one_hot

from ...hyperparameters import hyperparameter
from .loss import LongTailLoss


@dataclass(eq=False)
class GCL(LongTailLoss, name="gcl"):
    """Gaussian clouded logits: noise lowers the logits of rare classes, a margin lowers that of the true class.

    `z_c - s·|ξ|·(log n_max - log n_c)/(log n_max - log n_min) - s·m·[c = y]`, for logits z = s·cosine; ξ is normal
    with a standard deviation of 1/3, clipped to [-1, 1], drawn for each sample and class. Equal counts have no noise.

    The noise comes from torch's generator on the logits' device. Gradient evaluations that restore the generator, as
    those of one step do, see the same noise.

    Args:
        counts: n_c, the number of training samples of each class, by label.
        margin: m, as a cosine (RSAM-PT: 0.1; GCL's own code: 0.5 by default).
        scale: s, the scale of the model's logits (RSAM-PT: 25).

    Reference:
        Li et al., "Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment", CVPR 2022,
        https://arxiv.org/abs/2305.11733
    """

    margin: float = hyperparameter(0.1, low=0, help="Margin of the true class, as a cosine.")
    scale: float = hyperparameter(25.0, above=0, help="Scale of the model's logits.")

    def __post_init__(self, counts: Sequence[int]) -> None:
        super().__post_init__(counts)
        rarity = self.class_counts.max().log() - self.class_counts.log()
        self.cloud_sizes = rarity / rarity.max().clamp(min=torch.finfo(rarity.dtype).tiny)

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        xi = (torch.randn_like(logits) / 3).clamp(-1, 1)
        true = one_hot(labels, len(self.class_counts)).to(logits)
        return logits - self.scale * (xi.abs() * self.cloud_sizes.to(logits) + self.margin * true)
