"""The state that all `Accelerator`s of a process share, captured and restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelerate.state import AcceleratorState, GradientState, PartialState


_SHARED = PartialState, AcceleratorState, GradientState


@dataclass(frozen=True)
class SharedState:
    """What Accelerate remembers for the whole process, such as whether this step synchronises gradients.

    All `Accelerator`s share it, so that loops that take turns have to put their own back. Only the private attribute
    `_shared_state` of the three classes holds it; a dictionary that all instances refer to. Its values are replaced
    and never changed in place.

    Read on accelerate 1.15.0.

    Args:
        values: The attributes of `PartialState`, `AcceleratorState` and `GradientState`.
    """

    values: tuple[dict[str, Any], ...]

    @classmethod
    def capture(cls) -> SharedState:
        """Return the state as it is now."""
        return cls(tuple(dict(each._shared_state) for each in _SHARED))

    @property
    def is_complete(self) -> bool:
        """True if an `Accelerator` had been made."""
        return all(self.values)

    def restore(self) -> None:
        """Set the state back."""
        for each, values in zip(_SHARED, self.values, strict=True):
            each._shared_state.clear()
            each._shared_state.update(values)
