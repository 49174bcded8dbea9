"""How many runs are done at a time, with how many threads each.

A command uses the threads that torch has in its process: those of `OMP_NUM_THREADS`, or else one for each core. Where
a step is so small that threads would wait for each other, each run gets one, and several runs are done side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedConfig

from .side_by_side import can_fork


WORK_OF_A_THREAD = 2**25
"""The multiply-adds of a step's widest product, tokens × width², for which one more thread pays.

Measured on 2 cores: a step of the demo (2·10⁶ to 2·10⁷) takes 1.3 times as long with two threads as with one; the
texts of 100 classes at ViT-B/16's size (10⁸) take 0.8 times as long.
"""


def work_of_images(tower: PreTrainedConfig, images: int) -> int:
    """The multiply-adds of the widest product when an image tower encodes images: patches × width²."""
    size, patch = (np.atleast_1d(each)[0] for each in (tower.image_size, tower.patch_size))
    return images * int(size // patch) ** 2 * tower.hidden_size**2


class Share(NamedTuple):
    """How runs share the threads of this process.

    Args:
        processes: How many runs are done at a time. If it is 1, they are done in this process.
        threads: How many threads each run has; None for those that torch has.
    """

    processes: int
    threads: int | None


def share_threads(works: Sequence[int], at_once: int | None = None) -> Share:
    """Share the threads of this process among runs.

    Args:
        works: For each run the multiply-adds of the widest product in its steps.
        at_once: How many runs are asked to be done at a time; None for as many as pay.

    Raises:
        ValueError: More than one is asked for where runs cannot be done side by side.
    """
    if PartialState().device.type != "cpu" or PartialState().num_processes > 1 or not can_fork():
        if at_once is not None and at_once > 1:
            raise ValueError(
                f"--runs_at_once {at_once} is for one process on a CPU under Linux, which can be forked; here the "
                "runs are done one after the other. Leave it out."
            )
        return Share(1, None)
    available = torch.get_num_threads()
    threads = min(available, max(1, max(works, default=0) // WORK_OF_A_THREAD))
    if at_once is None:
        at_once = available if threads == 1 else 1
    processes = max(1, min(at_once, len(works)))
    return Share(processes, threads if processes == 1 else 1)


@contextmanager
def limit_threads(number: int | None) -> Iterator[None]:
    """Within the block, let torch compute with so many threads; None for as many as it has."""
    before = torch.get_num_threads()
    if number is not None and number != before:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
