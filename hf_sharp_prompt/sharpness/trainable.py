"""Which parameters train, however a loop names them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import nn


Parameters: TypeAlias = nn.Module | Iterable[nn.Parameter | tuple[str, nn.Parameter]]


def trainable(given: Parameters) -> list[nn.Parameter]:
    """Return the parameters with `requires_grad`, each once, in the order in which they are given.

    Args:
        given: A model, its `parameters()` or its `named_parameters()`.

    Raises:
        ValueError: Something else than parameters; none that trains; parameters on several devices.
    """
    if isinstance(given, torch.Tensor):
        raise ValueError("SharpnessAware takes a model or several parameters, got one tensor; put it into a list.")
    each = given.parameters() if isinstance(given, nn.Module) else given
    # By identity, since tensors compare their values.
    found = {id(parameter): parameter for parameter in map(_without_name, each)}
    parameters = [parameter for parameter in found.values() if parameter.requires_grad]
    if not parameters:
        raise ValueError("There is nothing to train: none of the parameters has requires_grad=True.")
    if len(devices := {str(parameter.device) for parameter in parameters}) > 1:
        raise ValueError(
            f"The trainable parameters are on several devices ({', '.join(sorted(devices))}); a sharpness rule "
            "needs them on one. Frozen parameters may be anywhere."
        )
    return parameters


def _without_name(given: nn.Parameter | tuple[str, nn.Parameter]) -> nn.Parameter:
    parameter = given[1] if isinstance(given, tuple) and len(given) == 2 else given
    if not isinstance(parameter, torch.Tensor):
        raise ValueError(
            f"SharpnessAware takes a model, its parameters() or its named_parameters(); among them is a "
            f"{type(parameter).__name__}."
        )
    return parameter
