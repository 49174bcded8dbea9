"""Which tensor of a released checkpoint is which of an adapter.

A file of CoOp, CoCoOp, KgCoOp and ProGrad holds the prompt learner, one of MaPLe's repository the whole CLIP with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ..tuners import CLIPPromptConfig


class Place(NamedTuple):
    """Where a tensor of a checkpoint is in an adapter.

    Args:
        name: The adapter's tensor, below its tower's embeddings.
        row: Its part there; None is all of it.
    """

    name: str
    row: int | None = None


def learned_tensors(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a checkpoint has learned, named as in the prompt learner, or from the whole model on as in the towers."""
    learned = {}
    for name, tensor in state_dict.items():
        is_of_clip = name == "logit_scale" or name.startswith(("image_encoder.", "text_encoder."))
        if not is_of_clip or is_in_tower(name):
            learned[name.removeprefix("prompt_learner.")] = tensor
    unused = ["token_prefix", "token_suffix"]  # embeddings around the context, which class names give again
    if "bias_vectors" in learned:  # KgCoOp's, which has these but no use for them
        unused += ["bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias"]
    return {name: tensor for name, tensor in learned.items() if name not in unused}


def is_in_tower(name: str) -> bool:
    """Whether a tensor is one that VPT and independent prompts have put into the towers."""
    return name.endswith((".VPT", ".VPT_shallow"))


def default_template(state_dict: dict[str, torch.Tensor]) -> str:
    """The text around class names that a checkpoint was trained with, if its configuration was the published one.

    MaPLe's repository learns as many of the words "a photo of a" as it has context tokens; the others stay.
    """
    if "ctx" in state_dict:
        return "{}."
    learned_words = len(state_dict.get("prompt_learner.ctx", ()))
    return " ".join([*["a", "photo", "of", "a"][learned_words:], "{}."])


def config_of(learned: dict[str, torch.Tensor], **fields: Any) -> CLIPPromptConfig:
    """The config of the design that learned these.

    Args:
        learned: The learned tensors of a checkpoint.
        fields: Of the config, what the tensors do not tell.

    Raises:
        ValueError: There is no prompt among them; they lack parts of the design, or have others besides.
    """
    context, vision = learned.get("ctx"), learned.get("image_encoder.VPT")
    if context is None and vision is None:
        found = ", ".join(sorted(learned)[:8]) or "no prompt learner"
        raise ValueError(f"neither ctx nor image_encoder.VPT is in it, but {found}.")
    for name, tensor in (("ctx", context), ("image_encoder.VPT", vision)):
        if tensor is not None and tensor.dim() not in (2, 3):
            raise ValueError(f"{name} should be tokens × width, but has {tensor.dim()} dimensions.")

    def count(*prefixes: str) -> int:
        return sum(name.startswith(prefixes) for name in learned)

    text_tokens = 0 if context is None else context.shape[-2]
    text_depth = 1 + count("compound_prompts_text.", "text_encoder.")
    coupled = count("proj.", "compound_") > 0
    config = CLIPPromptConfig(
        num_text_tokens=text_tokens,
        text_depth=text_depth,
        class_specific=context is not None and context.dim() == 3,
        conditional=count("meta_net.") > 0,
        num_vision_tokens=text_tokens if coupled else 0 if vision is None else len(vision),
        vision_depth=text_depth if coupled else max(count("image_encoder."), 1),
        coupled=coupled,
        **fields,
    )
    expected = places(config)
    lacking, besides = sorted(expected.keys() - learned.keys()), sorted(learned.keys() - expected.keys())
    if lacking or besides:
        differences = [f"lacks {', '.join(lacking)}"] if lacking else []
        differences += [f"has {', '.join(besides)} besides"] if besides else []
        raise ValueError(f"it looks like {_design(config)}, but {' and '.join(differences)}.")
    return config


def places(config: CLIPPromptConfig) -> dict[str, Place]:
    """Where each learned tensor of a checkpoint is in an adapter of the same design."""
    found = {}
    if config.num_text_tokens:
        found["ctx"] = Place("clip_prompt_context")
    if config.conditional:
        for name in _weight_and_bias("meta_net.linear1", "meta_net.linear2"):
            found[name] = Place(f"clip_prompt_{name}")
    for layer in range(1, config.text_depth):
        name = f"compound_prompts_text.{layer - 1}" if config.coupled else f"text_encoder.{_shallow(layer)}"
        found[name] = Place("clip_prompt_deep_context", row=layer - 1)
    for layer in range(config.vision_depth if config.num_vision_tokens else 0):
        if config.coupled:
            linear = f"compound_prompt_projections.{layer - 1}" if layer else "proj"
            coupling = _weight_and_bias(f"clip_prompt_coupling.{layer}")
            found |= {name: Place(there) for name, there in zip(_weight_and_bias(linear), coupling)}
        else:
            found[f"image_encoder.{_shallow(layer)}"] = Place("clip_prompt_vision_tokens", row=layer)
    return found


def has_whole_model(config: CLIPPromptConfig) -> bool:
    """Whether the files of a design are those of a whole model, as in MaPLe's repository."""
    return config.text_depth > 1 or config.num_vision_tokens > 0


def _weight_and_bias(*linears: str) -> list[str]:
    return [f"{linear}.{part}" for linear in linears for part in ("weight", "bias")]


def _shallow(layer: int) -> str:
    return f"transformer.resblocks.{layer}.VPT_shallow" if layer else "VPT"


def _design(config: CLIPPromptConfig) -> str:
    if config.coupled:
        return "MaPLe"
    if config.conditional:
        return "CoCoOp"
    return "VPT or IVLP" if has_whole_model(config) else "CoOp"
