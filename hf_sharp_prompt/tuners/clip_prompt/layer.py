"""What the prompted embeddings of both towers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..prompt_layer import PromptLayer


class PromptedEmbeddings(PromptLayer):
    """The embeddings of a tower, with the learned tokens of its adapters.

    Args:
        base_layer: The tower's own embeddings.
    """

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer

    def __getattr__(self, name: str) -> Any:
        # Towers look at the parts of their embeddings.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Resizing the vocabulary puts another part in its place.
        base_layer = dict(self.named_children()).get("base_layer")
        if base_layer is not None and name in dict(base_layer.named_children()):
            setattr(base_layer, name, value)
        else:
            super().__setattr__(name, value)


def device_and_dtype(weight: torch.Tensor) -> dict[str, Any]:
    """Return the device and precision of what is learned beside a weight: float32 beside a quantised one."""
    return {"device": weight.device, "dtype": weight.dtype if weight.is_floating_point() else torch.float32}
