"""Who runs a call's texts through the text tower: the call itself, or somebody who does it for many calls at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from .call import asked, asking
from .text_tower import TextModel


_ANY_TOWER, _TEXT_PASSES = object(), "text_passes"


class TextPasses(ABC):
    """Runs the passes of texts behind a shared prefix, instead of `encode_shared_prefix` and its backward pass."""

    @abstractmethod
    def encode(
        self,
        tower: TextModel,
        prefix: torch.Tensor,
        texts: Sequence[Sequence[int]],
        deep: torch.Tensor | None = None,
        class_chunk_size: int | None = None,
    ) -> torch.Tensor:
        """Return what `encode_shared_prefix` returns for these arguments."""

    @abstractmethod
    def backward_pass(self) -> AbstractContextManager[None]:
        """The block computes a loss and calls its `backward`; gradients are complete behind the block."""


def using_text_passes(passes: TextPasses) -> AbstractContextManager[None]:
    """Within the block, and in this thread only, let `passes` run what is encoded behind a shared prefix."""
    return asking({(_ANY_TOWER, _TEXT_PASSES): passes})


def text_passes() -> TextPasses | None:
    """Return who runs the passes of this call; None if the call does it itself."""
    return asked(_ANY_TOWER, _TEXT_PASSES)


def backward_pass() -> AbstractContextManager[None]:
    """Return the block in which a loop computes a loss and calls its `backward`; behind it the gradients are there."""
    passes = text_passes()
    return nullcontext() if passes is None else passes.backward_pass()
