from __future__ import annotations

from dataclasses import dataclass

import torch

from ...hyperparameters import hyperparameter
from .loss import LongTailLoss


@dataclass(eq=False)
class LogitAdjustment(LongTailLoss, name="logit_adjustment"):
    """Logit adjustment: adds the log class priors to the logits.

    `z_c + τ·log π_c`, `π_c = n_c / Σ n`.

    Args:
        counts: n_c, the number of training samples of each class, by label.
        tau: τ; 1 is what minimises the balanced error (paper: 1).

    Reference:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314
    """

    tau: float = hyperparameter(1.0, low=0, help="Weight of the log class priors.")

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits + (self.tau * self.log_priors).to(logits)
