from __future__ import annotations

from collections.abc import Sequence

from .logit_adjustment import LogitAdjustment


class BalancedSoftmax(LogitAdjustment):
    """Balanced softmax: `n_c·exp(z_c) / Σ n_k·exp(z_k)`, which is logit adjustment with τ = 1.

    Args:
        counts: n_c, the training samples of each class, by label.

    Reference:
        Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020,
        https://arxiv.org/abs/2007.10740
    """

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__(counts, tau=1.0)
