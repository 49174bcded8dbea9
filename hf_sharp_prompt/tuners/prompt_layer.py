"""What the layers that hold learned tokens have in common: which adapter answers a call."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from .call import asked


ADAPTER = "adapter"
BASE = "__base__"
"""How PEFT names the model without adapters in `adapter_names`."""


class PromptLayer(nn.Module, BaseTunerLayer):
    """The learned tokens, and what belongs to them, of all adapters at one place of a model."""

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
        """What the adapter that answers this call has among these parts, or None."""
        name = self.adapter
        return parts[name] if name in parts else None  # noqa: SIM401 (a ModuleDict has no `get`)

    def enable_adapters(self, enabled: bool) -> None:
        """Let adapters take part in the model or not.

        Unlike PEFT's own this changes no `requires_grad`, so that a frozen adapter is still frozen afterwards.
        """
        self._disable_adapters = not enabled


def answer_by_adapter(module: ModulesToSaveWrapper, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """A forward hook: let the copy of the adapter that the call asks for answer, if it asks for one."""
    chosen = asked(module, ADAPTER)
    if chosen is None:
        return output
    is_copied = chosen in module.modules_to_save
    return (module.modules_to_save[chosen] if is_copied else module.original_module)(*args, **kwargs)
