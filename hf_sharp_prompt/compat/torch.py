"""The hooks of modules, and whose they are."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

from torch import nn


OURS = __name__.partition(".")[0]
RECORDING = "transformers.utils.output_capturing"
"""Where transformers defines the hooks that record hidden states. Those stay, and do nothing until they are asked."""


def is_watched(module: nn.Module) -> bool:
    """Tell whether a module has hooks that are neither this package's nor transformers' own.

    torch has no public list of a module's hooks. Read on torch 2.13.0 and transformers 5.24.0.
    """
    hooks = chain(module._forward_hooks.values(), module._forward_pre_hooks.values())
    return any(not _home_of(hook).startswith((f"{OURS}.", RECORDING)) for hook in hooks)


def _home_of(hook: Any) -> str:
    return getattr(hook.func if isinstance(hook, partial) else hook, "__module__", None) or ""
