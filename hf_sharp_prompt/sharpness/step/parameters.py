"""The trainable parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import nn

from ..vectors import flatten, split


Parameters: TypeAlias = nn.Module | Iterable[nn.Parameter | tuple[str, nn.Parameter]]
"""A model, its `parameters()` or its `named_parameters()`."""


class ParameterVector:
    """Reads and writes all trainable parameters, and their gradients, as one flat vector.

    Args:
        parameters: A model, its `parameters()` or its `named_parameters()`; those with `requires_grad` are the
            vector's, each once, in this order.

    Attributes:
        tensors: The parameters that train.

    Raises:
        ValueError: There is something other than parameters, nothing trains, or what trains is on several devices.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.tensors: list[torch.Tensor] = find_trainable(parameters)

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def read(self) -> torch.Tensor:
        """Return the parameters as they are now: a copy, of length dim."""
        return flatten(self.tensors)

    @torch.no_grad()
    def write(self, flat: torch.Tensor) -> None:
        """Set the parameters to a vector of length dim."""
        for tensor, part in zip(self.tensors, self.split(flat.to(self.device)), strict=True):
            tensor.copy_(part)

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """A vector of length dim as tensors with the parameters' shapes and precisions."""
        return [part.to(tensor.dtype) for part, tensor in zip(split(flat, self.tensors), self.tensors, strict=True)]

    def copy(self) -> list[torch.Tensor]:
        """Return the parameters as they are now, tensor by tensor."""
        return [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def move(self, origin: list[torch.Tensor], offset: torch.Tensor | None = None) -> None:
        """Set the parameters to `origin + offset`, or to the bits of `origin`.

        Args:
            origin: As `copy` returns it.
            offset: A vector of length dim.
        """
        if offset is None:
            torch._foreach_copy_(self.tensors, origin)
        else:
            torch._foreach_copy_(self.tensors, torch._foreach_add(origin, self.split(offset)))
        torch.clear_autocast_cache()  # In a loop's own autocast it would still hold the parameters as they were.

    @property
    def gradients(self) -> list[torch.Tensor | None]:
        """The parameters' `.grad`."""
        return [tensor.grad for tensor in self.tensors]

    @gradients.setter
    def gradients(self, gradients: Sequence[torch.Tensor | None]) -> None:
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            tensor.grad = gradient

    def read_gradients(self) -> torch.Tensor:
        """All `.grad` as a vector of length dim, with zeros where there is none."""
        return flatten(torch.zeros_like(each) if each.grad is None else each.grad for each in self.tensors)


def find_trainable(parameters: Parameters) -> list[torch.Tensor]:
    """Return the parameters with `requires_grad`, each once, in their order.

    Args:
        parameters: A model, its `parameters()` or its `named_parameters()`.

    Raises:
        ValueError: There is something other than parameters, nothing trains, or what trains is on several devices.
    """
    if isinstance(parameters, torch.Tensor):
        raise ValueError("SharpnessAware takes a model or several parameters, got one tensor; put it into a list.")
    each = parameters.parameters() if isinstance(parameters, nn.Module) else parameters
    # By identity, since tensors compare their values.
    found = {id(parameter): parameter for parameter in map(_without_name, each)}
    trained: list[torch.Tensor] = [parameter for parameter in found.values() if parameter.requires_grad]
    if not trained:
        raise ValueError("There is nothing to train: none of the parameters has requires_grad=True.")
    if len(devices := {str(parameter.device) for parameter in trained}) > 1:
        raise ValueError(
            f"The trainable parameters are on several devices ({', '.join(sorted(devices))}); a sharpness rule "
            "needs them on one. Frozen parameters may be anywhere."
        )
    return trained


def _without_name(entry: nn.Parameter | tuple[str, nn.Parameter]) -> nn.Parameter:
    parameter = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
    if not isinstance(parameter, torch.Tensor):
        raise ValueError(
            f"SharpnessAware takes a model, its parameters() or its named_parameters(); among them is a "
            f"{type(parameter).__name__}."
        )
    return parameter
