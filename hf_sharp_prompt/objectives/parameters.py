"""The parameters that train, by name and as one flat vector."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def flatten(parameters: dict[str, nn.Parameter]) -> torch.Tensor:
    """Return the parameters' values as one flat vector, without graph."""
    return parameters_to_vector(parameter.detach().contiguous() for parameter in parameters.values())


def split(flat: torch.Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Return the parts of a flat vector by name, each with its parameter's shape, dtype and device."""
    parts = flat.split([parameter.numel() for parameter in parameters.values()])
    return {
        name: part.view_as(parameter).to(parameter)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True)
    }
