"""What all layers that hold learned tokens share: which adapter answers a call."""

from __future__ import annotations

from typing import Any

from peft.utils import ModulesToSaveWrapper
from torch import nn

from ..compat.peft import OpenTunerLayer
from .call import asked


ADAPTER = "adapter"
BASE = "__base__"
"""How PEFT names the model without adapters in `adapter_names`."""


class PromptLayer(OpenTunerLayer):
    """The learned tokens, and what belongs to them, of all adapters at one place of a model."""

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True

    @property
    def adapter(self) -> str | None:
        """The adapter that answers this call: the one that the call asks for, or else the active one.

        None for the base model: the call asks for it, adapters are disabled, or none is active.
        """
        chosen = asked(self, ADAPTER)
        if chosen is not None:
            return None if chosen == BASE else chosen
        return None if self.disable_adapters or not self.active_adapters else self.active_adapters[0]

    def part_of_adapter(self, parts: nn.ParameterDict | nn.ModuleDict) -> Any:
        """Return what the adapter that answers this call has in a table of parts by adapter, or None."""
        name = self.adapter
        return parts[name] if name is not None and name in parts else None

    @property
    def disable_adapters(self) -> bool:
        """Whether the base model answers."""
        return not self._is_enabled

    def enable_adapters(self, enabled: bool) -> None:
        """Let adapters take part in the model or not.

        Unlike PEFT's method this changes no `requires_grad`, so a frozen adapter is still frozen afterwards.
        """
        self._is_enabled = enabled


def listen_to_call(module: ModulesToSaveWrapper) -> None:
    """Let the copy of the adapter that a call asks for answer. A second time changes nothing."""
    if "listens_to_call" not in vars(module):
        vars(module)["listens_to_call"] = True
        module.register_forward_hook(_answer_by_adapter, with_kwargs=True)


def _answer_by_adapter(module: ModulesToSaveWrapper, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """A forward hook: the copy of the adapter that the call asks for answers, if it asks for one."""
    chosen = asked(module, ADAPTER)
    if chosen is None:
        return output
    is_copied = chosen in module.modules_to_save
    return (module.modules_to_save[chosen] if is_copied else module.original_module)(*args, **kwargs)
