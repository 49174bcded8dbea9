"""The states of the random generators: captured, restored, and kept within a block."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomState:
    """What the random generators of a process would draw next.

    Args:
        python: The state of the module `random`.
        numpy: The state of NumPy's global generator.
        cpu: The state of torch's generator on the CPU.
        devices: The states of torch's generators on accelerators, by device.
    """

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    cpu: torch.Tensor
    devices: dict[torch.device, torch.Tensor]

    @classmethod
    def capture(cls, devices: Iterable[torch.device] = ()) -> RandomState:
        """Return the states as they are now.

        Args:
            devices: The devices besides the CPU whose generators count; the CPU may be among them.
        """
        accelerators = [device for device in devices if device.type != "cpu"]
        on_devices = {device: torch.get_device_module(device).get_rng_state(device) for device in accelerators}
        return cls(random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), on_devices)

    def restore(self) -> None:
        """Set the generators back to these states."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        for device, state in self.devices.items():
            torch.get_device_module(device).set_rng_state(state, device)


@contextmanager
def random_state_kept(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Let the block draw and seed as it likes; however it ends, the generators are as they were before it.

    Args:
        devices: As for `RandomState.capture`.
    """
    state = RandomState.capture(devices)
    try:
        yield
    finally:
        state.restore()


def accelerators() -> list[torch.device]:
    """Return the accelerators that this process sees, all of one kind; without any, an empty list."""
    kind = torch.accelerator.current_accelerator()
    return (
        [] if kind is None else [torch.device(kind.type, index) for index in range(torch.accelerator.device_count())]
    )
