"""Models that compute with the same frozen tensors, so that many of them take the memory of one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn


M = TypeVar("M", bound=nn.Module)


def copy_with_same_weights(model: M) -> M:
    """Return a copy of a model whose weights are in the memory of the model's own; its buffers and hooks are not.

    A copy that moves to another device or precision leaves the others where they are.
    """
    return copy.deepcopy(model, memo={id(parameter): _same(parameter) for parameter in model.parameters()})


def _same(parameter: nn.Parameter) -> nn.Parameter:
    """Return a parameter with the same memory; a quantised one, which holds more, itself."""
    if type(parameter) is not nn.Parameter:
        return parameter
    return nn.Parameter(parameter.data, parameter.requires_grad)


@torch.no_grad()
def share_equal_weights(models: Iterable[nn.Module]) -> None:
    """Let frozen parameters of the same name and the same values be in the same memory."""
    known: dict[str, list[nn.Parameter]] = {}
    for model in models:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or type(parameter) is not nn.Parameter:  # Quantised ones hold more.
                continue
            same = next((each for each in known.setdefault(name, []) if _are_equal(each, parameter)), None)
            if same is None:
                known[name].append(parameter)
            else:
                parameter.data = same.data


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.device, one.shape) != (other.dtype, other.device, other.shape):
        return False
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)
