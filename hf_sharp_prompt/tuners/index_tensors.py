"""Integers known to Python, as tensors on a device."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch


def index_tensor(values: Iterable[int], device: torch.device) -> torch.Tensor:
    """Return integers as a tensor, the same one for the same values; do not change it in place.

    A copy from Python to an accelerator waits until the device has done all work before it. It also keeps a CUDA
    graph from being captured. So the positions and token ids of a step's texts are copied once, and not at every step.

    Args:
        values: The integers.
        device: Where the tensor is.
    """
    if torch.compiler.is_exporting():  # A fake tensor must not be kept.
        return torch.tensor(list(values), device=device)
    return _index_tensor(tuple(values), device)[0]


@torch.compiler.assume_constant_result
def _index_tensor(values: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor]:
    """Return the tensor in a tuple; compiled code cannot take several bare tensors from one constant function."""
    return _keep_index_tensor(values, device)


@lru_cache(maxsize=128)
def _keep_index_tensor(values: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor]:
    with torch.inference_mode(False):  # Otherwise no backward pass could save it.
        return (torch.tensor(values, dtype=torch.long, device=device),)
