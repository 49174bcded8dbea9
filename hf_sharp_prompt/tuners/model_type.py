"""The type of a transformers model, by which the tables of towers are read."""

from __future__ import annotations

from torch import nn


def model_type_of(module: nn.Module) -> str | None:
    """Return `config.model_type` of a module; None if it has none."""
    return getattr(getattr(module, "config", None), "model_type", None)
