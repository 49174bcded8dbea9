"""What a forward pass changes besides its outputs, such as batch normalisation's running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def buffers_kept(model: nn.Module | None = None) -> Iterator[None]:
    """Within the block forward passes may change buffers; afterwards these are as they were before.

    Args:
        model: Whose buffers are kept. By default those of every module that is called within the block.
    """
    held: dict[tuple[nn.Module, str], tuple[torch.Tensor, torch.Tensor]] = {}

    def hold(module: nn.Module, _: tuple | None = None) -> None:
        for name, buffer in module._buffers.items():
            if buffer is not None and (module, name) not in held:
                held[module, name] = buffer, buffer.clone()

    hook = None
    if model is None:
        hook = register_module_forward_pre_hook(hold)
    else:
        for module in model.modules():
            hold(module)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()
        with torch.no_grad():
            for (module, name), (buffer, before) in held.items():
                module._buffers[name] = buffer.copy_(before)
