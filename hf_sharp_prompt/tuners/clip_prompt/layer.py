from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .config import CLIPPromptConfig


class PromptedTextEmbeddings(nn.Module, BaseTunerLayer):
    """The embeddings of a text tower, with learned context tokens after the first token.

    Two places have to know of the context: the tower, whose mask, positions and EOS pooling count tokens, and the
    embeddings, where the vectors go. A pre-hook on the tower makes room for them in `input_ids` and `attention_mask`;
    this layer fills the room. Everything in between is the tower's own forward.

    Args:
        base_layer: The tower's `CLIPTextEmbeddings`.
        eos_token_id: The tower's, which decides where it pools.
    """

    adapter_layer_names = ("clip_prompt_context",)

    def __init__(self, base_layer: nn.Module, eos_token_id: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.clip_prompt_context = nn.ParameterDict()
        self.eos_token_id = eos_token_id

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.base_layer.token_embedding

    @property
    def position_embedding(self) -> nn.Embedding:
        return self.base_layer.position_embedding

    @property
    def max_positions(self) -> int:
        return self.position_embedding.num_embeddings

    @property
    def width(self) -> int:
        return self.token_embedding.embedding_dim

    @property
    def active_context(self) -> nn.Parameter | None:
        """The active adapter's context, n × width; None while adapters are disabled or none is active."""
        if self.disable_adapters or not self.active_adapters:
            return None
        return self.clip_prompt_context[self.active_adapters[0]]

    def make_room_in(self, tower: nn.Module) -> None:
        """Put the pre-hook on the tower that owns the embeddings."""
        self._room_hook = tower.register_forward_pre_hook(self._make_room, with_kwargs=True)

    def pooled_positions(self, input_ids: torch.LongTensor) -> torch.LongTensor:
        """Where the tower pools: at the first EOS, or in checkpoints with the historical id 2 at the largest id."""
        scores = input_ids if self.eos_token_id == 2 else (input_ids == self.eos_token_id).int()
        return scores.argmax(dim=1)

    def update_layer(self, adapter_name: str, config: CLIPPromptConfig) -> None:
        """Add an adapter's context, initialised as its config says."""
        n, weight = config.num_text_tokens, self.token_embedding.weight
        # SOS, EOS and one token of text have to fit as well.
        if n > self.max_positions - 3:
            raise ValueError(
                f"num_text_tokens is {n}, but the text tower has {self.max_positions} positions, of which a text "
                f"needs at least 3; the most that fits is num_text_tokens={self.max_positions - 3}."
            )
        context = torch.empty(n, self.width, device=weight.device, dtype=weight.dtype).normal_(std=0.02)
        if config.text_init_token_ids:
            if (largest := max(config.text_init_token_ids)) >= weight.shape[0]:
                raise ValueError(
                    f"text_init has token {largest}, but the model's vocabulary has {weight.shape[0]}; use the "
                    "tokenizer of the base model."
                )
            words = torch.tensor(config.text_init_token_ids, device=weight.device)
            with torch.no_grad():
                context[n - len(words) :] = self.token_embedding(words)
        self.clip_prompt_context[adapter_name] = nn.Parameter(context)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        context = self.active_context
        if context is None:
            return self.base_layer(input_ids=input_ids, position_ids=position_ids, inputs_embeds=inputs_embeds)
        if inputs_embeds is None:
            inputs_embeds = self.token_embedding(input_ids)
        n = context.shape[0]
        context = context.to(inputs_embeds).expand(inputs_embeds.shape[0], -1, -1)
        inputs_embeds = torch.cat([inputs_embeds[:, :1], context, inputs_embeds[:, n + 1 :]], dim=1)
        return self.base_layer(inputs_embeds=inputs_embeds, position_ids=position_ids)

    def _make_room(self, tower: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Turn the ids of `[SOS][text][EOS]` into those of `[SOS][room for n][text][EOS]`, and mask and positions."""
        context = self.active_context
        if context is None:
            return None
        n = context.shape[0]
        kwargs = {**dict(zip(("input_ids", "attention_mask", "position_ids"), args)), **kwargs}
        input_ids = kwargs["input_ids"]
        input_ids = self._drop_padding(input_ids.view(-1, input_ids.shape[-1]), n)
        batch_size, length = input_ids.shape
        # The room's ids are never looked up; SOS is the one id sure not to be taken for EOS when pooling.
        kwargs["input_ids"] = torch.cat([input_ids[:, :1], input_ids[:, :1].expand(-1, n), input_ids[:, 1:]], dim=1)
        if (mask := kwargs.get("attention_mask")) is not None:
            mask = mask.view(batch_size, -1)[:, :length]
            kwargs["attention_mask"] = torch.cat([mask.new_ones(batch_size, n), mask], dim=1)
        if (positions := kwargs.get("position_ids")) is not None:
            room = positions[:, :1] + torch.arange(1, n + 1, device=positions.device)
            kwargs["position_ids"] = torch.cat([positions[:, :1], room, positions[:, 1:length] + n], dim=1)
        return (), kwargs

    def _drop_padding(self, input_ids: torch.LongTensor, n: int) -> torch.LongTensor:
        """Cut columns that are padding in every row so that n more tokens fit the position table.

        Raises:
            ValueError: A text and the context together exceed the position table.
        """
        keep = self.max_positions - n
        if input_ids.shape[1] <= keep:
            return input_ids
        longest = int(self.pooled_positions(input_ids).max()) + 1
        if longest > keep:
            raise ValueError(
                f"A text of {longest} tokens and {n} context tokens exceed the {self.max_positions} positions of the "
                f"text tower; shorten the text to {keep} tokens (SOS and EOS included) or use fewer context tokens."
            )
        return input_ids[:, :keep]

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Take the context out of the tower again (called by PEFT's `unload`)."""
        self._room_hook.remove()
        return self.base_layer
