"""Vision tokens that are made of text tokens (MaPLe)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class CoupledTokens:
    """Vision tokens of every layer, made of the text tokens of the same layer when they are read.

    Args:
        projections: For each layer a map from text width to vision width.
        tokens: For each layer the text tokens, n × text width.
    """

    def __init__(self, projections: Sequence[nn.Linear], tokens: Sequence[torch.Tensor]) -> None:
        self.projections = projections
        self.tokens = tokens

    @property
    def shape(self) -> torch.Size:
        """The shape of all vision tokens: layers × n × vision width."""
        return torch.Size([len(self.projections), len(self.tokens[0]), self.projections[0].out_features])

    def __getitem__(self, layer: int) -> torch.Tensor:
        return self.projections[layer](self.tokens[layer])
