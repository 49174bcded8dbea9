"""Prompted towers written out: every sequence built by hand, one text and one image at a time, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from tuners import vision_models

from hf_sharp_prompt import CLIPPromptConfig


def parameters_of(model: nn.Module, adapter: str = "default") -> dict[str, torch.Tensor]:
    """The adapter's parameters by their own names: context, deep_context, meta_net.linear1.weight, …"""
    return {
        name.split("clip_prompt_")[1].replace(f".{adapter}", ""): parameter
        for name, parameter in model.named_parameters()
        if "clip_prompt_" in name and f".{adapter}" in name
    }


def deep_context(prompts: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return list(prompts.get("deep_context", []))


def vision_tokens(config: CLIPPromptConfig, prompts: dict[str, torch.Tensor], like: nn.Module) -> torch.Tensor:
    """Return the tokens of every layer, depth × m × width; without tokens, 1 × 0 × width."""
    if not config.num_vision_tokens:
        weight = next(like.parameters())
        return torch.zeros(1, 0, like.config.hidden_size, dtype=weight.dtype)
    if not config.coupled:
        return prompts["vision_tokens"]
    layers = []
    for index, tokens in enumerate([prompts["context"], *deep_context(prompts)]):
        weight, bias = (prompts[f"coupling.{index}.{each}"] for each in ("weight", "bias"))
        layers.append(torch.stack([weight @ token + bias for token in tokens]))
    return torch.stack(layers)


def shifted(prompts: dict[str, torch.Tensor], image_feature: torch.Tensor) -> torch.Tensor:
    """CoCoOp's context for an image."""
    hidden = prompts["meta_net.linear1.weight"] @ image_feature + prompts["meta_net.linear1.bias"]
    hidden = hidden * (hidden > 0)
    return prompts["context"] + prompts["meta_net.linear2.weight"] @ hidden + prompts["meta_net.linear2.bias"]


def text_feature(
    model: nn.Module,
    tower: nn.Module,
    ids: list[int],
    context: torch.Tensor | None,
    deep: list[torch.Tensor] = (),
    position: str = "end",
    name_end: int | None = None,
) -> torch.Tensor:
    """Encode one text.

    Args:
        model: Has the projection, if there is one.
        tower: Its text tower.
        ids: The text's, without padding: `[SOS] … [EOS]`, or `… [EOS]` of SigLIP.
        context: n × width.
        deep: The context of the further layers, n × width each.
        position: Where the text stands in its context.
        name_end: How many tokens there are up to the name's last; by default all but EOS.
    """
    siglip = type(tower).__name__.startswith("Siglip")
    table = tower.embeddings.token_embedding
    table = getattr(table, "weight", table)
    start = 0 if siglip else 1
    before, after = table[ids[:start]], table[ids[start:]]
    n = 0 if context is None else len(context)
    name = (len(ids) - 1 if name_end is None else name_end) - start
    if context is None:
        parts = [before, after]
    elif position == "end":
        parts = [before, context, after]
    elif position == "middle":
        parts = [before, context[: n // 2], after[:name], context[n // 2 :], after[name:]]
    else:
        parts = [before, after[:name], context, after[name:]]
    if siglip:  # as trained, padded to its length with what closes a text
        parts.append(table[[ids[-1]] * (tower.config.max_position_embeddings - len(ids) - n)])
    states = torch.cat(parts)
    length = len(states)
    states = states + tower.embeddings.position_embedding.weight[:length]
    mask = torch.zeros(1, 1, length, length, dtype=states.dtype)
    if not siglip:
        for query in range(length):
            mask[..., query, query + 1 :] = -torch.inf
    for index, layer in enumerate(tower.encoder.layers):
        if 0 < index <= len(deep):
            states = torch.cat([states[:start], deep[index - 1], states[start + n :]])
        states = layer(states[None], mask)[0]
    last = tower.final_layer_norm(states)[-1]
    if siglip:
        return tower.head(last)
    return model.text_projection(last) if hasattr(model, "text_projection") else last


def image_feature(
    model: nn.Module, tower: nn.Module, inputs: dict[str, Any], image: int, tokens: torch.Tensor
) -> torch.Tensor:
    """Encode one of the images, with the learned tokens of every layer, depth × m × width."""
    of_image = {name: value[image : image + 1] for name, value in inputs.items()}
    hidden_states, _ = vision_models.slow_tower("", tower, of_image, tokens)
    last = hidden_states[-1]
    if type(model).__name__.endswith("ForImageClassification"):
        if "Siglip" not in type(model).__name__:
            return model.classifier(last[:, 1:].mean(dim=1))[0]
        last = tower.post_layernorm(last)[0]
        mask = of_image.get("pixel_attention_mask")
        kept = last if mask is None else last[mask[0] == 1]
        return model.classifier(kept.mean(dim=0))
    if type(tower).__name__.startswith("Siglip"):
        last, mask = tower.post_layernorm(last), of_image.get("pixel_attention_mask")
        return (tower.head(last) if mask is None else tower.head(last, mask))[0]
    pooled = tower.post_layernorm(last[:, 0])[0]
    return model.visual_projection(pooled) if hasattr(model, "visual_projection") else pooled
