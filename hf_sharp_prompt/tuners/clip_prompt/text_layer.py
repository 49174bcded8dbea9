"""The learned context of texts: where its vectors stand, and how they get there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from ..call import asked, asking
from ..index_tensors import index_tensor
from ..shared_prefix import encode_shared_prefix, route_attention
from ..text_passes import text_passes
from ..text_tower import TextModel, TextTower
from ..vision_tokens import VisionTokens
from ..vision_tower import VisionModel, VisionTower
from .config import CLIPPromptConfig
from .coupled_tokens import CoupledTokens
from .layer import PromptedEmbeddings, device_and_dtype


CONTEXT, NAME_ENDS = "context", "name_ends"


class PromptedTextEmbeddings(PromptedEmbeddings):
    """The embeddings of a text tower, with learned context tokens beside those of the text.

    Three places have to know of the context: the tower, whose mask, positions and pooling count tokens; the
    embeddings, where the vectors go; and, for deep prompts, the layers, where others take their places. A pre-hook on
    the tower makes room for the n vectors in `input_ids` and `attention_mask`; this layer fills the room; pre-hooks on
    the layers fill it again. Everything in between is the tower's own forward.

    The ids of the room are −n … −1, for V1 … Vn. They alone say where the vectors go, so no call leaves anything on
    this layer. No text ends in them: a tower reads its feature at the highest id, at EOS or at the last position.

    Args:
        base_layer: The tower's own embeddings.
        tower: The tower, on whose modules the hooks are put.
        kind: What is known of its type.
    """

    adapter_layer_names = (
        "clip_prompt_context",
        "clip_prompt_deep_context",
        "clip_prompt_meta_net",
        "clip_prompt_coupling",
    )
    other_param_names = ("class_token_position",)

    def __init__(self, base_layer: nn.Module, tower: TextModel, kind: TextTower) -> None:
        super().__init__(base_layer)
        self.clip_prompt_context = nn.ParameterDict()
        self.clip_prompt_deep_context = nn.ParameterDict()
        self.clip_prompt_meta_net = nn.ModuleDict()
        self.clip_prompt_coupling = nn.ModuleDict()
        self.kind = kind
        self.tower_config: PreTrainedConfig = tower.config
        self.class_token_position: dict[str, str] = {}
        self._coupled: VisionTokens | None = None
        self._hooks = [tower.register_forward_pre_hook(self._make_room, with_kwargs=True)]
        self._hooks += [
            layer.register_forward_pre_hook(partial(self._fill_room_before, index), with_kwargs=True)
            for index, layer in enumerate(tower.encoder.layers)
            if index > 0
        ]
        if kind.causal:
            route_attention(tower)

    @property
    def max_positions(self) -> int:
        return self.position_embedding.num_embeddings

    @property
    def start(self) -> int:
        """The position of the first context token of a text that follows its context."""
        return int(self.kind.starts_with_token)

    @property
    def active_context(self) -> torch.Tensor | None:
        """The context of this call's texts: n × width, or texts × n × width; None if there is none."""
        chosen = asked(self, CONTEXT)
        return self.part_of_adapter(self.clip_prompt_context) if chosen is None else chosen

    def using_context(
        self, context: torch.Tensor | None = None, name_ends: torch.Tensor | None = None
    ) -> AbstractContextManager[None]:
        """Within the block, and in this thread only, use another context than the adapter's.

        Args:
            context: Texts × n × width; None for the adapter's.
            name_ends: Where the texts' names end; by default at the EOS.
        """
        return asking({(self, CONTEXT): context, (self, NAME_ENDS): name_ends})

    @property
    def shares_prefix(self) -> bool:
        """Whether all texts begin with the active adapter's context, and the tower sees nothing of what follows."""
        context = self.part_of_adapter(self.clip_prompt_context)
        if context is None or context.dim() == 3:
            return False
        return self.kind.causal and self._position_of_text == "end"

    @property
    def _position_of_text(self) -> str:
        """The `class_token_position` of the adapter that answers this call; "end" for the base model."""
        adapter = self.adapter
        return "end" if adapter is None else self.class_token_position[adapter]

    def encode_behind_prefix(
        self,
        tower: TextModel,
        token_ids: Sequence[Sequence[int]],
        context: torch.Tensor | None = None,
        class_chunk_size: int | None = None,
    ) -> torch.Tensor:
        """Return the tower's pooled features of texts that share their context, where `shares_prefix`.

        Args:
            tower: The tower.
            token_ids: For each text `[SOS] … [EOS]`, without padding.
            context: A context for each image, images × n × width; by default the active adapter's for all.
            class_chunk_size: As `encode_shared_prefix` takes it.

        Returns:
            texts × width, or with `context` images × texts × width.
        """
        context = self.active_context if context is None else context
        assert context is not None
        first = index_tensor(token_ids[0][:1], context.device)
        sos = self.token_embedding(first).expand(*context.shape[:-2], 1, -1)
        prefix = torch.cat([sos, context.to(sos)], dim=-2)
        deep = self.part_of_adapter(self.clip_prompt_deep_context)
        passes = text_passes()
        encode = encode_shared_prefix if passes is None else passes.encode
        return encode(tower, prefix, [ids[1:] for ids in token_ids], deep, class_chunk_size)

    def shifted_context(self, image_features: torch.Tensor) -> torch.Tensor:
        """Return the active adapter's context, shifted by its meta-net's output for each image: images × n × width."""
        meta_net = self.part_of_adapter(self.clip_prompt_meta_net)
        shift = meta_net(image_features.to(meta_net.linear1.weight.dtype))
        return self.active_context + shift.unsqueeze(1)

    def coupled_vision_tokens(self) -> CoupledTokens | None:
        """Return the vision tokens that the active adapter makes of its text tokens, or None."""
        coupling, context = self.part_of_adapter(self.clip_prompt_coupling), self.active_context
        if coupling is None or context is None:
            return None
        deep = self.part_of_adapter(self.clip_prompt_deep_context)
        return CoupledTokens(coupling, [context, *(() if deep is None else deep)])

    def couple_with(self, vision_tower: VisionModel, parts: VisionTower) -> None:
        """Let `coupled_vision_tokens` travel through a vision tower."""
        if self._coupled is None:
            self._coupled = VisionTokens(vision_tower, parts, self.coupled_vision_tokens)

    def ends_of(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the position of each text's EOS, from texts × length."""
        return self.kind.end(input_ids, self.tower_config)

    def update_layer(
        self, adapter_name: str, config: CLIPPromptConfig, feature_width: int = 0, vision_width: int = 0
    ) -> None:
        """Add an adapter's parts, initialised as its config says.

        Args:
            adapter_name: The adapter's name.
            config: Its config.
            feature_width: The width of the image features that a meta-net reads.
            vision_width: The width of the vision tower that tokens are projected to.
        """
        n, width = config.num_text_tokens, self.tower_config.hidden_size
        make = device_and_dtype(self.token_embedding.weight)
        self.clip_prompt_context[adapter_name] = nn.Parameter(self._initial_context(config))
        if config.text_depth > 1:
            deep = torch.empty(config.text_depth - 1, n, width, **make).normal_(std=0.02)
            self.clip_prompt_deep_context[adapter_name] = nn.Parameter(deep)
        if config.conditional:
            hidden = max(feature_width // 16, 1)
            self.clip_prompt_meta_net[adapter_name] = nn.Sequential(
                OrderedDict(
                    linear1=nn.Linear(feature_width, hidden, **make),
                    relu=nn.ReLU(),
                    linear2=nn.Linear(hidden, width, **make),
                )
            )
        if config.coupled:
            self.clip_prompt_coupling[adapter_name] = nn.ModuleList(
                nn.Linear(width, vision_width, **make) for _ in range(config.text_depth)
            )
        self.class_token_position[adapter_name] = config.class_token_position
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _initial_context(self, config: CLIPPromptConfig) -> torch.Tensor:
        """Return n × width, or classes × n × width: the words of `text_init` last, the rest random or zero."""
        n, width = config.num_text_tokens, self.tower_config.hidden_size
        make = device_and_dtype(self.token_embedding.weight)
        classes = [len(config.class_names or ())] if config.class_specific else []
        context = torch.empty(*classes, n, width, **make).normal_(std=0.02)
        if config.text_init_rest == "zeros":
            context.zero_()
        if config.text_init_token_ids:
            words = torch.tensor(config.text_init_token_ids, device=make["device"])
            with torch.no_grad():
                context[..., n - len(words) :, :] = self.token_embedding(words)
        return context

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        context = self.active_context
        if context is None or input_ids is None:
            return self.base_layer(input_ids=input_ids, position_ids=position_ids, inputs_embeds=inputs_embeds)
        words = self.token_embedding(input_ids.clamp(min=0))
        which = (input_ids + context.shape[-2]).clamp(min=0, max=context.shape[-2] - 1).unsqueeze(-1).expand_as(words)
        vectors = context.to(words).expand(words.shape[0], -1, -1).gather(1, which)
        inputs_embeds = torch.where(input_ids.unsqueeze(-1) < 0, vectors, words)
        return self.base_layer(inputs_embeds=inputs_embeds, position_ids=position_ids)

    def _make_room(self, tower: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Make room for n vectors behind SOS, in the middle or at the end, in ids, mask and positions."""
        context = self.active_context
        if context is None:
            return None
        kwargs = {**dict(zip(("input_ids", "attention_mask", "position_ids"), args)), **kwargs}
        self._check_texts(kwargs["input_ids"], context)
        n, input_ids = context.shape[-2], kwargs["input_ids"]
        input_ids = self._drop_padding(input_ids.view(-1, input_ids.shape[-1]), n)
        texts, length = input_ids.shape
        places, moved = self._arrange(input_ids, n)
        room = torch.arange(-n, 0, device=input_ids.device).to(input_ids).expand(texts, -1)
        prompted = input_ids.new_empty(texts, length + n)
        kwargs["input_ids"] = prompted.scatter(1, places, room).scatter(1, moved, input_ids)
        if (mask := kwargs.get("attention_mask")) is not None:
            mask = mask.view(texts, -1)[:, :length]
            kwargs["attention_mask"] = mask.new_ones(texts, length + n).scatter(1, moved, mask)
        if (positions := kwargs.get("position_ids")) is not None:
            kwargs["position_ids"] = positions[:, :1] + torch.arange(length + n, device=positions.device)
        return (), kwargs

    def _check_texts(self, input_ids: torch.Tensor, context: torch.Tensor) -> None:
        """Check that texts are of the model's vocabulary and may have this context.

        Raises:
            ValueError: A token outside the vocabulary; or texts that are not of the classes, each of which has its own
                context.
        """
        vocabulary = self.token_embedding.num_embeddings
        # On an accelerator this would wait for the device.
        if input_ids.device.type == "cpu" and not torch.compiler.is_compiling() and int(input_ids.max()) >= vocabulary:
            raise ValueError(
                f"A text has token {int(input_ids.max())}, but the model's vocabulary has {vocabulary}; use the "
                "tokenizer of the base model, or make room for added tokens with the text model's "
                "resize_token_embeddings."
            )
        if context.dim() == 3 and asked(self, CONTEXT) is None:
            raise ValueError(
                f"The adapter's contexts are those of its {len(context)} classes; other texts cannot be encoded with "
                "it. Use an adapter with class_specific=False."
            )

    def _arrange(self, input_ids: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positions in the prompted text of the context, texts × n, and of the text, texts × length."""
        # The number of context tokens in front of the text.
        ahead = {"end": n, "middle": n // 2, "front": 0}[self._position_of_text]
        token = torch.arange(n, device=input_ids.device)
        place = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        if ahead == n:
            places = (self.start + token).expand(input_ids.shape[0], -1)
            return places, torch.where(place < self.start, place, place + n)
        ends = asked(self, NAME_ENDS)
        ends = (self.ends_of(input_ids) if ends is None else ends).to(input_ids).unsqueeze(1)
        moved = place + ahead * (place >= self.start) + (n - ahead) * (place >= ends)
        return torch.where(token < ahead, self.start + token, ends + token), moved

    def _drop_padding(self, input_ids: torch.Tensor, n: int) -> torch.Tensor:
        """Cut columns that are padding in every row so that n more tokens fit the position table.

        Where the tower reads the last position, the length stays what it was, if there is as much padding.

        Raises:
            ValueError: A text and the context together exceed the position table.
        """
        length = input_ids.shape[1]
        keep = self.max_positions - n
        if self.kind.pools_at_end and length <= keep:
            return input_ids
        if torch.compiler.is_exporting():  # A graph cannot depend on where the longest text ends.
            return input_ids[:, :keep]
        longest = int(self.ends_of(input_ids).max()) + 1
        if longest > keep:
            raise ValueError(
                f"A text of {longest} tokens and {n} context tokens exceed the {self.max_positions} positions of the "
                f"text tower; shorten the text to {keep} tokens (SOS and EOS included) or use fewer context tokens."
            )
        return input_ids[:, : keep if self.kind.pools_at_end else min(max(longest, length - n), keep)]

    def _fill_room_before(
        self, index: int, layer: nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]] | None:
        deep = self.part_of_adapter(self.clip_prompt_deep_context)
        # A row of texts behind a shared prefix has the deeper tokens in it already.
        if deep is None or index > len(deep) or "shared_prefix" in kwargs:
            return None
        hidden_states, *others = args
        tokens = deep[index - 1].to(hidden_states).expand(hidden_states.shape[0], -1, -1)
        behind = hidden_states[:, self.start + tokens.shape[1] :]
        return (torch.cat([hidden_states[:, : self.start], tokens, behind], dim=1), *others), kwargs

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Take the context out of the tower; PEFT's `unload` calls it."""
        for hook in [*self._hooks, self._coupled]:
            if hook is not None:
                hook.remove()
        return self.base_layer
