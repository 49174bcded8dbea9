"""Exact encoding of many texts with the same beginning: `[SOS][V1 … Vn]` once, and of each text only the rest.

In a causal text tower a token sees nothing of what comes after it, so the keys and values of a shared prefix are the
same for every text. All texts stand in one row behind one prefix, without padding,

    [SOS][V1 … Vn] [name₁ EOS] [name₂ EOS] …

and pass through the tower's own layers. Only attention has to know: a text sees the prefix and itself. That is an
attention function registered with transformers, which learns from the layers' keyword arguments where the texts are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, repeat
from math import ceil
from typing import Any

import psutil
import torch
from torch import nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from ..compat.transformers import RoutedConfig, configured_attention
from .index_tensors import index_tensor
from .sharding import has_sharded, least_of_all
from .text_tower import TextModel


ATTENTION = "shared_prefix"


def encode_shared_prefix(
    tower: TextModel,
    prefix: torch.Tensor,
    texts: Sequence[Sequence[int]],
    deep: torch.Tensor | None = None,
    class_chunk_size: int | None = None,
) -> torch.Tensor:
    """Return the features of texts that share a prefix, equal to those that the tower computes for each text.

    Args:
        tower: A causal text tower laid out as CLIP's: `embeddings.token_embedding`, `embeddings.position_embedding`,
            `encoder.layers`, `final_layer_norm`; prepared by [`route_attention`].
        prefix: Embeddings of `[SOS][V1 … Vn]` without positions, (1 + n) × width; or images × (1 + n) × width where
            the context is conditioned on images.
        texts: For each text the token ids that follow the prefix. The last is the one whose feature is read (EOS).
        deep: What replaces V1 … Vn in front of layers 1, 2, …; layers × n × width, or layers × images × n × width.
        class_chunk_size: The number of prompts (texts, times images) whose activations are held. More are encoded in
            chunks, which are computed again in the backward pass. By default no chunks are made, unless all at once
            would take more than half of the device's free memory; compiled code decides it when it is traced.

    Returns:
        Features after the tower's last layer norm, texts × width or images × texts × width.

    Raises:
        ValueError: `route_attention` has not prepared the tower.

    Example:
        ```py
        >>> tower, sos, eos = clip.text_model, tokenizer.bos_token_id, tokenizer.eos_token_id
        >>> route_attention(tower)
        >>> prefix = torch.cat([tower.embeddings.token_embedding.weight[sos : sos + 1], context])
        >>> encode_shared_prefix(tower, prefix, [[2368, eos], [1929, 269, eos]]).shape
        torch.Size([2, 512])
        ```
    """
    if not all(isinstance(layer.self_attn.config, RoutedConfig) for layer in tower.encoder.layers):
        raise ValueError("The tower's attention knows nothing of a shared prefix; call route_attention(tower) first.")
    prefixes = prefix.reshape(-1, *prefix.shape[-2:])
    # Texts of equal length side by side, so that their attention is one batched product.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    texts = [texts[i] for i in order]

    prompts = len(prefixes) * len(texts)
    chunk_size = class_chunk_size or _affordable_chunk_size(tower, prefixes, texts)
    if chunk_size >= prompts:
        features = _encode(tower, prefixes, texts, deep)
    else:
        # Whole images where they fit: every chunk computes its prefixes again.
        some_texts = _split(texts, chunk_size)
        images = max(1, chunk_size // len(texts))
        some_prefixes = prefixes.split(images)
        some_deep = repeat(deep) if deep is None or deep.dim() == 3 else deep.split(images, dim=1)
        features = torch.cat(
            [
                torch.cat([checkpoint(_encode, tower, p, t, d, use_reentrant=False) for t in some_texts], dim=1)
                for p, d in zip(some_prefixes, some_deep)
            ]
        )
    places = sorted(range(len(order)), key=order.__getitem__)
    features = features[:, index_tensor(places, features.device)]
    return features.reshape(*prefix.shape[:-2], len(texts), -1)


def route_attention(tower: TextModel) -> None:
    """Let the tower's attention modules call [`shared_prefix_attention`].

    That calls the function of the tower's config for all other passes, so nothing else changes.
    Do it once, before threads use the tower; [`restore_attention`] undoes it.
    """
    for layer in tower.encoder.layers:
        if not isinstance(layer.self_attn.config, RoutedConfig):
            layer.self_attn.config = RoutedConfig(layer.self_attn.config, ATTENTION)


def restore_attention(tower: TextModel) -> None:
    """Let the tower's attention modules look up their attention function as they did before `route_attention`."""
    for layer in tower.encoder.layers:
        if isinstance(layer.self_attn.config, RoutedConfig):
            layer.self_attn.config = layer.self_attn.config.base


@dataclass(frozen=True)
class _Row:
    """Where things are in `[prefix][text][text]…`, texts of equal length side by side.

    Args:
        prefix: Number of the prefix's tokens.
        groups: Pairs (number of texts, number of tokens of each).
    """

    prefix: int
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, prefixes: torch.Tensor, texts: Sequence[Sequence[int]]) -> _Row:
        return cls(prefixes.shape[1], tuple((len(list(same)), length) for length, same in groupby(texts, key=len)))


def _encode(
    tower: TextModel, prefixes: torch.Tensor, texts: Sequence[Sequence[int]], deep: torch.Tensor | None
) -> torch.Tensor:
    """Return the features of texts sorted by length, images × texts × width."""
    row, device = _Row.of(prefixes, texts), prefixes.device
    ids = index_tensor(chain.from_iterable(texts), device)
    following = chain.from_iterable(range(row.prefix, row.prefix + len(text)) for text in texts)
    positions = index_tensor(chain(range(row.prefix), following), device)
    ends = index_tensor([row.prefix - 1 + behind for behind in accumulate(map(len, texts))], device)

    words = tower.embeddings.token_embedding(ids).expand(len(prefixes), -1, -1)
    # In the words' precision: an embedding's weight may be quantised and say nothing of it.
    hidden_states = torch.cat([prefixes.to(words), words], dim=1) + tower.embeddings.position_embedding(positions)
    *layers, last_layer = tower.encoder.layers
    for depth, layer in enumerate(layers):
        hidden_states = layer(_with_deep_prompts(hidden_states, deep, depth), None, shared_prefix=row)
    hidden_states = _with_deep_prompts(hidden_states, deep, len(layers))
    if last_layer.gradient_checkpointing and last_layer.training:
        # It may be the reentrant kind, which gives tensors in keyword arguments no gradient.
        hidden_states = last_layer(hidden_states, None, shared_prefix=row)[:, ends]
    else:
        attended = {"attended": hidden_states, "norm": last_layer.layer_norm1}
        hidden_states = last_layer(hidden_states[:, ends], None, shared_prefix=row, **attended)
    return tower.final_layer_norm(hidden_states)


def _with_deep_prompts(hidden_states: torch.Tensor, deep: torch.Tensor | None, depth: int) -> torch.Tensor:
    """Return the hidden states that go into layer `depth`."""
    if deep is None or not 1 <= depth <= len(deep):
        return hidden_states
    prompts = deep[depth - 1].to(hidden_states).expand(len(hidden_states), -1, -1)
    return torch.cat([hidden_states[:, :1], prompts, hidden_states[:, 1 + prompts.shape[1] :]], dim=1)


def shared_prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    shared_prefix: _Row | None = None,
    attended: torch.Tensor | None = None,
    norm: Callable[[torch.Tensor], torch.Tensor] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend causally within the prefix, and from every text to the prefix and itself.

    Args:
        module: The attention module that asks.
        query: images × heads × tokens × head width, like `key` and `value`.
        shared_prefix: Where the texts are; without it, the attention function of the tower's config is called.
        attended: States of the whole row, where the queries are those of the last token of each text alone; keys and
            values are then made of these.
        norm: What normalises `attended`. It is called here, within the layer, whose weights may be sharded over
            processes and are whole only while it runs.

    Returns:
        The attended values, images × tokens × heads × head width, and None for the weights.
    """
    if shared_prefix is None:
        function = configured_attention(module)
        return function(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    n = shared_prefix.prefix
    if attended is not None and norm is not None:
        attended = norm(attended)
        key, value = (
            module.get_submodule(projection)(attended).unflatten(-1, (-1, query.shape[-1])).transpose(1, 2)
            for projection in ("k_proj", "v_proj")
        )
        outputs = _attend_from_texts(query * scaling, key, value, shared_prefix, dropout)
    else:
        q, k, v = (states[:, :, :n] for states in (query, key, value))
        outputs = [
            scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling),
            *_attend_from_texts(query[:, :, n:] * scaling, key, value, shared_prefix, dropout),
        ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend_from_texts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, row: _Row, dropout: float
) -> list[torch.Tensor]:
    """Return the attended values of the texts' tokens, or of the last token of each alone, by group."""
    lengths = [length for _, length in row.groups]
    asking = lengths if query.shape[2] == key.shape[2] - row.prefix else [1] * len(lengths)
    query_sizes = [count * asks for (count, _), asks in zip(row.groups, asking)]
    key_sizes = [count * length for count, length in row.groups]
    prefix_key, *keys = key.split([row.prefix, *key_sizes], dim=2)
    prefix_value, *values = value.split([row.prefix, *key_sizes], dim=2)
    # One product with the prefix for all texts, and none of its keys and values is copied for any.
    prefix_scores = (query @ prefix_key.transpose(-1, -2)).split(query_sizes, dim=2)
    outputs = []
    for (count, length), asks, *states in zip(
        row.groups, asking, query.split(query_sizes, dim=2), keys, values, prefix_scores
    ):
        q, k, v, scores = (each.unflatten(2, (count, -1)) for each in states)
        later = torch.ones(asks, length, dtype=torch.bool, device=q.device).triu(1 + length - asks)
        own_scores = (q @ k.transpose(-1, -2)).masked_fill(later, -torch.inf)
        weights = torch.cat([scores, own_scores], dim=-1).softmax(dim=-1)
        if dropout:
            weights = drop(weights, dropout)
        to_prefix, to_itself = weights.split([row.prefix, length], dim=-1)
        outputs.append(to_prefix.flatten(2, 3) @ prefix_value + (to_itself @ v).flatten(2, 3))
    return outputs


AttentionInterface.register(ATTENTION, shared_prefix_attention)


def _affordable_chunk_size(tower: TextModel, prefixes: torch.Tensor, texts: Sequence[Sequence[int]]) -> int:
    """Return the number of prompts whose activations take at most half of the free memory."""
    prompts, needed = len(prefixes) * len(texts), estimate_activations(tower, prefixes, texts)
    affordable = affordable_memory(prefixes.device)
    if has_sharded(tower.encoder.layers):  # Processes that gather layers together make the same chunks.
        affordable = least_of_all(affordable, prefixes.device)
    return ceil(prompts / ceil(needed / affordable))


def estimate_activations(tower: TextModel, prefixes: torch.Tensor, texts: Sequence[Sequence[int]]) -> int:
    """Return the bytes that are held of a pass: of all layers where gradients are enabled, else of one.

    Args:
        tower: The text tower.
        prefixes: images × (1 + n) × width.
        texts: As `encode_shared_prefix` takes them.
    """
    config = tower.config
    held_layers = config.num_hidden_layers if torch.is_grad_enabled() else 1
    values_per_token = 9 * config.hidden_size + 3 * config.intermediate_size
    tokens = len(prefixes) * (prefixes.shape[1] + sum(map(len, texts)))
    return held_layers * values_per_token * tokens * prefixes.element_size()


def affordable_memory(device: torch.device) -> int:
    """Return the bytes that activations may take: half of the device's free ones."""
    return _free_memory(device) // 2


@torch.compiler.assume_constant_result
def _free_memory(device: torch.device) -> int:
    """Return the device's free bytes. Compiled code reads them when it is traced, which keeps its graph whole."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    cached = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
    return torch.accelerator.get_memory_info(device)[0] + cached


def _split(texts: Sequence[Sequence[int]], size: int) -> list[Sequence[Sequence[int]]]:
    return [texts[i : i + size] for i in range(0, len(texts), size)]
