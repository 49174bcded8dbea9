"""How far features or predictions are from those that an objective keeps them close to."""

from __future__ import annotations

import torch


def one_minus_cosine(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return `1 - cos` of normalised vectors along the last dimension."""
    return 1 - (features * targets.to(features)).sum(-1)


def divergence(past: torch.Tensor, now: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return `T²·KL(softmax(past/T) ‖ softmax(now/T))` of each sample, in float32 or better."""
    dtype = torch.promote_types(now.dtype, torch.float32)
    log_p, log_q = ((logits.to(dtype) / temperature).log_softmax(-1) for logits in (past, now))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)
