"""The last layer of a vision tower, only for the tokens whose outputs are read.

Where a call reads the pooled output alone, and that is made of CLS, the last layer's patches are attended to, and
nothing else is computed of them: they need no query, no output projection and no MLP.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..compat.torch import is_watched
from .attention_beside import can_attend_beside, let_attend_beside, restore_attention
from .call import asked, asking
from .vision_tower import VisionModel, VisionTower


READ = "read"


def reading_cls(tower: VisionModel, tokens: int = 0) -> AbstractContextManager[None]:
    """Within the block, in which of a tower's passes CLS alone is read, compute no more of its last layer.

    It holds in this thread only, where the tower has a [`PooledOutput`], and not in compiled or exported models, whose
    graph it would break. The tower's `last_hidden_state` may be CLS alone.

    Args:
        tower: The tower.
        tokens: How many tokens at the end of the last layer's sequence are read, too.
    """
    return nullcontext() if torch.compiler.is_compiling() else asking({(tower, READ): tokens})


class PooledOutput:
    """Lets a tower's last layer compute what is read alone, in calls within [`reading_cls`].

    It does so where the tower's type is known to allow it, and nobody else looks: hooks of others see all tokens.

    Args:
        tower: The vision tower.
        parts: Where its parts are.
    """

    def __init__(self, tower: VisionModel, parts: VisionTower) -> None:
        self.tower, self.parts = tower, parts
        self.layer = list(tower.get_submodule(parts.layers).children())[-1]
        # Besides the layer, its attention and the tower itself: what would see a shorter sequence.
        behind = [tower.get_submodule(name) for name in {parts.layers.rpartition(".")[0], parts.final_norm}]
        self._seeing = [*behind, *(module for module in self.layer.modules() if module is not self.layer)]
        let_attend_beside(self.layer, parts)
        self._hook = self.layer.register_forward_pre_hook(self._leave_cls, with_kwargs=True)

    def remove(self) -> None:
        """Take the hook off the layer."""
        self._hook.remove()
        restore_attention(self.layer, self.parts)

    def _leave_cls(self, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
        """Leave in a sequence what is read, and put the rest beside it."""
        tokens = None if torch.compiler.is_compiling() else asked(self.tower, READ)
        if tokens is None:
            return None
        hidden_states, *rest = args
        mask = rest[0] if rest else kwargs.get("attention_mask")
        if not can_attend_beside(layer, self.parts, mask) or any(map(is_watched, self._seeing)):
            return None
        first, others, last = hidden_states.split([1, hidden_states.shape[1] - 1 - tokens, tokens], dim=1)
        beside = layer.get_submodule(self.parts.attention_norm)(others)
        if "beside" in kwargs:
            beside = torch.cat([beside, kwargs["beside"].expand(beside.shape[0], -1, -1)], dim=1)
        return (torch.cat([first, last], dim=1) if tokens else first, *rest), kwargs | {"beside": beside}
