"""How many runs are done at a time, and with how many threads what is computed.

A command uses the threads that torch has in its process: those of `OMP_NUM_THREADS`, or else one for each core. Where
a step is so small that threads would wait for each other, each run gets one, and several runs are done side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedConfig

from .side_by_side import can_fork


WORK_OF_A_THREAD = 2**25
"""The multiply-adds of the widest product, tokens × width², for which one more thread pays.

Measured on 2 cores: a step of the demo (2·10⁶ to 2·10⁷) takes 1.3 times as long with two threads as with one, and many
times as long where other processes keep one of the cores busy; the texts of 100 classes at ViT-B/16's size (10⁸) take
0.8 times as long.
"""


def work_of_images(tower: PreTrainedConfig, images: int) -> int:
    """The multiply-adds of the widest product when an image tower encodes images: patches × width²."""
    size, patch = (np.atleast_1d(each)[0] for each in (tower.image_size, tower.patch_size))
    return images * int(size // patch) ** 2 * tower.hidden_size**2


def threads_for(work: int) -> int:
    """How many of torch's threads pay for this work."""
    return min(torch.get_num_threads(), max(1, work // WORK_OF_A_THREAD))


@contextmanager
def threads_that_pay(work: int) -> Iterator[None]:
    """Within the block, let torch compute with as many of its threads as pay for this work; on a GPU with all.

    Args:
        work: The multiply-adds of the widest product.
    """
    before = torch.get_num_threads()
    threads = threads_for(work) if PartialState().device.type == "cpu" else before
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_runs_at_once(works: Sequence[int], asked: int | None = None) -> int:
    """Choose how many runs are done at a time.

    Args:
        works: For each run the multiply-adds of the widest product in its steps.
        asked: How many are asked for; by default as many as torch has threads, if one pays for each run, else 1.

    Raises:
        ValueError: More than one is asked for where runs cannot be done side by side.
    """
    if PartialState().device.type != "cpu" or PartialState().num_processes > 1 or not can_fork():
        if asked is not None and asked > 1:
            raise ValueError(
                f"--runs_at_once {asked} is for one process on a CPU under Linux, which can be forked; here the runs "
                "are done one after the other. Leave it out."
            )
        return 1
    if asked is None:
        asked = torch.get_num_threads() if threads_for(max(works, default=0)) == 1 else 1
    return max(1, min(asked, len(works)))
