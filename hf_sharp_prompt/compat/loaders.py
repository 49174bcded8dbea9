"""What Accelerate and torch do with loaders, and have no public name for."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard


def seed_workers(loader: Any, seed: int) -> None:
    """Seed the workers of a loader that has no generator.

    By default their seeds are drawn from the random numbers that models see, when workers start, which in a resumed
    run is at other times.

    Read on accelerate 1.15.0.
    """
    base = find_base_loader(loader)
    if base.generator is None:
        base.generator = torch.Generator().manual_seed(seed)


def end_workers(loader: Any) -> None:
    """End the workers that live on between epochs. Left to the garbage collector, each makes it wait for 5 seconds.

    Read on torch 2.13.0, which has no public way to end persistent workers.
    """
    base = find_base_loader(loader)
    if getattr(base, "_iterator", None) is not None:
        base._iterator = None


def find_base_loader(loader: Any) -> Any:
    """Return torch's loader, from which an Accelerate loader takes its batches.

    Read on accelerate 1.15.0.
    """
    return getattr(loader, "base_dataloader", loader)


def samples_in_last_round(loader: Any) -> int | None:
    """Return how many samples are left for the processes' last batches together, where Accelerate fills them up.

    Accelerate repeats samples of the epoch's beginning there, and only `gather_for_metrics` takes them out again.

    Read on accelerate 1.15.0.

    Returns:
        The number of samples; None where nothing is repeated.
    """
    shard = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard) or not shard.even_batches or shard.drop_last or not shard.batch_size:
        return None
    in_a_round = shard.batch_size * (1 if shard.split_batches else shard.num_processes)
    return len(shard.batch_sampler.sampler) % in_a_round or None
