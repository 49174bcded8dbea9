"""What the launcher says about FSDP, kept from Accelerate's own preparation of models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from accelerate.utils import FullyShardedDataParallelPlugin


_ASKED = "ACCELERATE_USE_FSDP"


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
