"""The parameters that train, by name."""

from __future__ import annotations

import torch
from torch import nn

from ..sharpness.vectors import split


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def split_by_name(flat: torch.Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Return the parts of a flat vector by name, each with its parameter's shape, dtype and device."""
    parts = split(flat, list(parameters.values()))
    return {name: part.to(parameters[name]) for name, part in zip(parameters, parts, strict=True)}
