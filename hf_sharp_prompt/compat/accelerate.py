"""The state that all `Accelerator`s of a process share, and what the launcher says about FSDP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin


_ASKED = "ACCELERATE_USE_FSDP"

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


def find_fsdp_settings() -> FullyShardedDataParallelPlugin | None:
    """Return the settings of `accelerate launch --use_fsdp`, or of its configuration file; None without FSDP.

    Accelerate itself reads them where there are GPUs, and ignores them on CPUs.

    Read on accelerate 1.15.0.
    """
    return FullyShardedDataParallelPlugin() if os.environ.get(_ASKED, "false").lower() == "true" else None


@contextmanager
def launched_without_fsdp() -> Iterator[None]:
    """Within the block, an `Accelerator` is made as if the launcher had not asked for FSDP.

    With it, Accelerate shards a model as a whole: torch refuses CLIP's scalar `logit_scale` then, what trains is
    divided where it is not left out, and weights that one process alone has loaded cannot be handed on where it is.
    The Trainer would gather all weights for each checkpoint.

    Read on accelerate 1.15.0 and torch 2.13.0.
    """
    with patch.dict(os.environ, {_ASKED: "false"}):
        yield
