"""The few vector operations that the rules are written in."""

import torch


EPSILON = 1e-12


def unit(v: torch.Tensor) -> torch.Tensor:
    """`v / (‖v‖ + 1e-12)`: the direction of `v`, and zero for a zero vector."""
    return v / (v.norm() + EPSILON)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`cos(a, b)`, a scalar; zero where either vector is zero."""
    return unit(a) @ unit(b)


def project(v: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
    """The part of `v` along `onto`; zero where `onto` is zero."""
    return (v @ unit(onto)) * unit(onto)


def reject(v: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The part of `v` orthogonal to `other`."""
    return v - project(v, other)
