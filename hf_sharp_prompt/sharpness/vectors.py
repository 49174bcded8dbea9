"""The few vector operations that the rules are written in."""

from collections.abc import Iterable, Sequence

import torch


EPSILON = 1e-12


def unit(v: torch.Tensor) -> torch.Tensor:
    """`v / (‖v‖ + 1e-12)`: the direction of `v`, and zero for a zero vector."""
    return v / (v.norm() + EPSILON)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`cos(a, b)`, a scalar; zero where either vector is zero."""
    return unit(a) @ unit(b)


def project(v: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
    """Return the part of `v` along `onto`; zero where `onto` is zero."""
    return (v @ unit(onto)) * unit(onto)


def reject(v: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the part of `v` orthogonal to `other`."""
    return v - project(v, other)


def flatten(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Tensors of any shapes as one flat vector, without a graph."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def split(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parts of a flat vector, with the shapes of these tensors."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def filter_norms(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """For every element the norm of its filter: its row, or its whole tensor if that has one dimension or none."""
    rows = [tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(1, -1) for tensor in tensors]
    return torch.cat([row.norm(dim=1, keepdim=True).expand_as(row).reshape(-1) for row in rows])
