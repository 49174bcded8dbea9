"""The configs of all adapters of a model, of whichever method."""

from __future__ import annotations

import enum
from typing import Any

from peft import PeftConfig


class AdapterConfigs(dict[str, PeftConfig]):
    """The configs of a model's adapters, by name; an adapter of one method cannot take the name of another's.

    PEFT would overwrite the first config, and save the tensors of both under the second.
    """

    def check(self, name: str, config: PeftConfig) -> None:
        """Check that a config may have this name.

        Raises:
            ValueError: The name belongs to an adapter of another method.
        """
        held = self.get(name)
        if held is not None and held.peft_type != config.peft_type:
            raise ValueError(
                f"The model has an adapter {name!r} of type {method_of(held)} already, so that one of type "
                f"{method_of(config)} needs another name, or neither could be saved; give "
                "get_peft_model an adapter_name."
            )

    def __setitem__(self, name: str, config: PeftConfig) -> None:
        self.check(name, config)
        super().__setitem__(name, config)

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, config in dict(*args, **kwargs).items():
            self[name] = config


def method_of(config: PeftConfig) -> str:
    """Return the name of a config's method, such as `"LORA"`."""
    return config.peft_type.value if isinstance(config.peft_type, enum.Enum) else str(config.peft_type)
