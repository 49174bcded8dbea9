"""How learned tokens travel through a vision tower: the hooks that carry them.

Nothing of the tower is copied or replaced. The tokens join the sequence at its end once positions are added, travel
inside the hidden states, and leave after the last layer, before anything downstream counts tokens. In a layer whose
outputs for them nobody reads, since the next layer has tokens of its own, they are only attended to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.functional import pad
from torch.utils.hooks import RemovableHandle

from .attention_beside import can_attend_beside, let_attend_beside, restore_attention
from .call import asked, asking
from .vision_tower import VisionModel, VisionTower


class LayerTokens(Protocol):
    """Tokens of layers, layers × number × width: a tensor, or what computes the tokens of a layer on request."""

    @property
    def shape(self) -> torch.Size: ...

    def __getitem__(self, layer: int) -> torch.Tensor: ...


OUTPUTS = "outputs"


class VisionTokens:
    """Carries learned tokens through a vision tower, by hooks on the tower's own modules.

    Tokens join at the end of the sequence after the embeddings (passing a pre-norm, where there is one), those of a
    later layer take the place of the earlier ones before that layer, and they leave after the last layer. Where the
    next layer has its own, or none follows, tokens stay beside the sequence, if they can (see `can_attend_beside`): to
    attend to them is all that they are needed for.

    What counts tokens meets only its own: masks and relative positions are widened for the layers alone (the learned
    tokens attend to, and are attended by, whatever is not padding, without a position bias), and the `hidden_states`
    of the outputs are cut; attentions are left whole. All of it is in the hidden states and the layers' arguments, so
    that recomputation and compilation give the same.

    Args:
        tower: The vision tower; see `find_vision_tower`.
        parts: Where its parts are.
        tokens: Returns the tokens, layers × number × width: index 0 enters at the input, index i > 0 before layer i.
            None leaves the tower as it is, bit for bit. It is called at every layer, so it must be cheap; each
            layer's item is read once in a pass.
        dropout: Applied to the tokens once per image, batch × number × width.
    """

    def __init__(
        self,
        tower: VisionModel,
        parts: VisionTower,
        tokens: Callable[[], LayerTokens | None],
        dropout: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.tower = tower
        self.tokens = tokens
        self.dropout = dropout
        self.parts = parts
        self._layers = list(tower.get_submodule(parts.layers).children())
        self._pre_norm = tower.get_submodule(parts.pre_norm) if parts.pre_norm else None
        self._hooks: list[RemovableHandle] = []
        for index, layer in enumerate(self._layers):
            let_attend_beside(layer, parts)
            enter = partial(self._enter, index)
            # Before the hook of `PooledOutput`, which sees all tokens of the last layer.
            self._hooks.append(layer.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
            bias = dict(layer.named_children()).get(parts.position_bias or "")
            if bias is not None:
                self._hooks.append(bias.register_forward_hook(self._widen_bias, with_kwargs=True))
        # This hook comes first, so that the last of the recorded hidden states is one without the tokens.
        self._hooks.append(self._layers[-1].register_forward_hook(self._take_out, prepend=True, with_kwargs=True))
        self._hooks.append(tower.get_submodule(parts.recorder).register_forward_hook(self._cut_hidden_states))

    def remove(self) -> None:
        """Take the hooks off the tower."""
        for layer in self._layers:
            restore_attention(layer, self.parts)
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def collect_outputs(self) -> Iterator[list[torch.Tensor]]:
        """Within the block, this thread's passes through the tower append the tokens' outputs of the last layer.

        They are batch × number × width, before the tower's final norm.
        """
        outputs: list[torch.Tensor] = []
        with asking({(self, OUTPUTS): outputs}):
            yield outputs

    def _enter(self, index: int, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
        """Bring tokens to a layer: in its sequence, with room in its mask, or beside it."""
        tokens = self.tokens()
        if tokens is None:
            return None
        hidden_states, *rest = args
        depth, number, _ = tokens.shape
        mask = _mask_of(args, kwargs)
        travelled: torch.Tensor | None = None
        if index > 0 and not self._is_beside(index - 1, depth, mask):
            hidden_states, travelled = hidden_states[:, :-number], hidden_states[:, -number:]
        own = self._tokens_of_layer(tokens, index, hidden_states) if index < depth else travelled
        assert own is not None  # They are beside a layer only where the next has its own.
        if self._is_beside(index, depth, mask):
            norm = layer.get_submodule(self.parts.attention_norm)
            return (hidden_states, *rest), kwargs | {"beside": norm(own)}
        hidden_states = torch.cat([hidden_states, own.expand(hidden_states.shape[0], -1, -1)], dim=1)
        if mask is not None and rest:
            rest[0] = widen_mask(mask, number)
        elif mask is not None:
            kwargs = kwargs | {"attention_mask": widen_mask(mask, number)}
        return (hidden_states, *rest), kwargs

    def _is_beside(self, index: int, depth: int, mask: Any) -> bool:
        """Tell whether tokens stay beside a layer's sequence, since nobody reads what the layer makes of them."""
        is_last = index == len(self._layers) - 1
        unread = index + 1 < depth or (is_last and asked(self, OUTPUTS) is None)
        return unread and can_attend_beside(self._layers[index], self.parts, mask)

    def _tokens_of_layer(self, tokens: LayerTokens, index: int, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return a layer's own tokens, images × number × width, or 1 × number × width if all images have the same."""
        own = tokens[index].to(hidden_states).unsqueeze(0)
        if self.dropout is not None:
            own = self.dropout(own.expand(hidden_states.shape[0], -1, -1))
        if index == 0 and self._pre_norm is not None:
            own = self._pre_norm(own).to(hidden_states)
        return own

    def _widen_bias(
        self, module: nn.Module, args: tuple, kwargs: dict[str, Any], bias: torch.Tensor
    ) -> torch.Tensor | None:
        """Give the learned tokens a bias of zero: they are nowhere in the image.

        BEiT's biases, 1 × heads × length × length, are made for the image and then resized to the sequence's length,
        which changes nothing for the image alone; with learned tokens it would distort them.
        """
        (height, width), length = args[0], kwargs["dim_size"]
        number = length - (height * width + 1)
        if number == 0:
            return None
        if bias.shape[-1] == length:
            bias = module.forward(args[0], interpolate_pos_encoding=False, dim_size=length)
        return pad(bias, (0, number, 0, number))

    def _take_out(
        self, layer: nn.Module, args: tuple, kwargs: dict[str, Any], hidden_states: torch.Tensor
    ) -> torch.Tensor | None:
        tokens = self.tokens()
        if tokens is None or self._is_beside(len(self._layers) - 1, tokens.shape[0], _mask_of(args, kwargs)):
            return None
        number = tokens.shape[1]
        outputs = asked(self, OUTPUTS)
        if outputs is not None:
            outputs.append(hidden_states[:, -number:])
        return hidden_states[:, :-number]

    def _cut_hidden_states(self, recorder: nn.Module, args: tuple, outputs: Any) -> Any:
        """Cut the tokens off the recorded hidden states; all but the last have them."""
        tokens = self.tokens()
        if tokens is None:
            return None
        number = tokens.shape[1]

        def cut(hidden_states: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...]:
            *earlier, last = hidden_states
            return (*(states if states is None else states[:, :-number] for states in earlier), last)

        if isinstance(outputs, tuple):  # without names; its attentions have four dimensions
            return tuple(
                cut(part)
                if isinstance(part, tuple) and all(states is None or states.dim() == 3 for states in part)
                else part
                for part in outputs
            )
        if outputs.hidden_states is not None:
            outputs.hidden_states = cut(outputs.hidden_states)
        return outputs


def _mask_of(args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return a layer's mask: its second argument, by position or by name."""
    return args[1] if len(args) > 1 else kwargs.get("attention_mask")


def widen_mask(mask: torch.Tensor, number: int) -> torch.Tensor:
    """Return an attention mask with room for tokens at the end; they attend to all but padding, and all to them.

    Args:
        mask: Batch × length as flash attention takes it, or batch × heads × length × length, True or 0 where a token
            is attended to; an additive one may hold position biases, which the new tokens do not get.
        number: How many tokens.

    Raises:
        ValueError: flex attention's mask of blocks.
    """
    if not isinstance(mask, torch.Tensor):
        raise ValueError(
            f"Learned tokens cannot be added to a {type(mask).__name__}; load the model with "
            "attn_implementation='sdpa', or pass no mask."
        )
    if mask.dim() == 2:
        return pad(mask, (0, number), value=1)
    attended = True if mask.dtype == torch.bool else 0
    mask = pad(mask, (0, number), value=attended)
    if mask.shape[-2] == 1:  # one row for all tokens
        return mask
    row = mask[..., :1, :]
    if mask.dtype != torch.bool:
        row = row.masked_fill(row > torch.finfo(mask.dtype).min / 2, 0)
    return torch.cat([mask, row.expand(*mask.shape[:-2], number, -1)], dim=-2)
