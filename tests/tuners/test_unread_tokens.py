"""Of tokens whose outputs nobody reads only keys and values are computed, and all that is read stays the same."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import CLIPModel, ViTConfig, ViTModel
from tuners.clip_designs import NAMES, make_config
from tuners.clip_models import clip_tokenizer, image_inputs, make_model

from hf_sharp_prompt import ViTPromptConfig
from hf_sharp_prompt.tuners import pooled_output, vision_tokens


TOKENS = 10  # CLS and 9 patches
LABELS = torch.tensor([0, 2])


def prompted_clip(design: str, name: str = "CLIPModel") -> PeftModel:
    torch.manual_seed(0)
    model = get_peft_model(make_model(name, torch.float64), make_config(design, name))
    model.set_classes(NAMES, clip_tokenizer())
    return model.double()


def prompted_vit(**config: Any) -> PeftModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    vit = ViTModel(ViTConfig(image_size=48, patch_size=16, initializer_range=0.3, **sizes), add_pooling_layer=False)
    return get_peft_model(vit, ViTPromptConfig(class_names=NAMES, **config)).double()


def pixels() -> torch.Tensor:
    return image_inputs("CLIPModel", torch.float64)["pixel_values"]


def outputs_and_gradients(model: PeftModel, **arguments: Any) -> list[torch.Tensor]:
    outputs = model(pixel_values=pixels(), labels=LABELS, **arguments)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [outputs.logits, *torch.autograd.grad(outputs.loss, trained)]


def lengths_in_mlps(model: PeftModel, **arguments: Any) -> Counter[int]:
    """How many vision layers' MLPs see sequences of each length. A global hook is no hook of the modules."""
    mlps = {module for name, module in model.named_modules() if name.endswith("mlp") and "text" not in name}
    seen: list[int] = []
    hook = register_module_forward_hook(
        lambda module, args, output: seen.append(output.shape[1]) if module in mlps else None
    )
    try:
        model(pixel_values=pixels(), labels=LABELS, **arguments)
    finally:
        hook.remove()
    return Counter(seen)


MODELS = {
    "shallow": (lambda: prompted_clip("vision, shallow"), {TOKENS + 2: 2, 1: 1}),
    "deep": (lambda: prompted_clip("vision, deep"), {TOKENS: 2, 1: 1}),
    "coupled": (lambda: prompted_clip(".maple()"), {TOKENS: 1, TOKENS + 2: 1, 1: 1}),
    "independent": (lambda: prompted_clip(".ivlp()"), {TOKENS: 2, 1: 1}),
    "texts only": (lambda: prompted_clip(".coop()"), {TOKENS: 3}),
    "OWL-ViT": (lambda: prompted_clip("vision, deep", "OwlViTModel"), {TOKENS: 2, 1: 1}),
    "ViT": (lambda: prompted_vit(num_tokens=4, depth=None), {TOKENS: 2, 1: 1}),
    "ViT, tokens are pooled": (
        lambda: prompted_vit(num_tokens=4, depth=None, pooling="cls_prompt"),
        {TOKENS: 2, 5: 1},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_is_what_the_whole_sequence_gives(name, monkeypatch):
    """Otherwise a saved operation changes what is learned."""
    model = MODELS[name][0]()
    fast = outputs_and_gradients(model)
    for module in (pooled_output, vision_tokens):
        monkeypatch.setattr(module, "can_attend_beside", lambda *_: False)
    for actual, expected in zip(fast, outputs_and_gradients(model), strict=True):
        assert float((actual - expected).abs().max()) <= 1e-10 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", MODELS)
def test_tokens_that_nobody_reads_pass_no_mlp(name):
    """Otherwise most of the last layer, and of every layer before deep prompts, is computed in vain."""
    make, lengths = MODELS[name]
    assert lengths_in_mlps(make()) == lengths


@pytest.mark.parametrize("name", ["deep", "ViT"])
def test_what_others_look_at_is_whole(name):
    """Otherwise attention maps, recorded hidden states and hooks of users show a part of the image."""
    model = MODELS[name][0]()
    tokens = 2 if name == "deep" else 4
    assert lengths_in_mlps(model, output_hidden_states=True) == {TOKENS + tokens: 3}
    layers = [each for path, each in model.named_modules() if path.rpartition(".")[0].endswith("layers")]
    vision = [each for each in layers if each.layer_norm1.normalized_shape == (32,)] if name == "deep" else layers
    seen: list[torch.Size] = []
    hook = vision[-1].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model(pixel_values=pixels(), labels=LABELS)
    assert [shape[1] for shape in seen] == [TOKENS]
    hook.remove()
    assert 1 in lengths_in_mlps(model)


def test_gradient_checkpointing_sees_the_whole_sequence():
    """Its reentrant kind would give the tokens beside a sequence no gradient."""
    model = prompted_clip("vision, deep").train()
    fast = outputs_and_gradients(model)
    model.get_base_model().gradient_checkpointing_enable()
    assert lengths_in_mlps(model) == {TOKENS + 2: 3}
    for actual, expected in zip(outputs_and_gradients(model), fast, strict=True):
        torch.testing.assert_close(actual, expected)


def test_without_prompts_the_model_is_as_it_was_bit_for_bit():
    """Otherwise wrapping a model changes what it answers to others."""
    clip: nn.Module = make_model("CLIPModel", torch.float64)
    before = clip.get_image_features(pixels())
    model = get_peft_model(copy.deepcopy(clip), make_config("vision, deep")).double()
    with model.disable_adapter():
        after = model.get_base_model().get_image_features(pixels())
    assert torch.equal(after.last_hidden_state, before.last_hidden_state)
    assert torch.equal(after.pooler_output, before.pooler_output)
    unloaded = model.unload()
    assert isinstance(unloaded, CLIPModel)
    assert unloaded.vision_model.encoder.layers[-1].self_attn.config is unloaded.vision_model.config
    assert not any(each._forward_pre_hooks for each in unloaded.modules())


def test_the_attention_function_takes_tokens_that_differ_between_images():
    """Dropped tokens are other ones for every image."""
    model = prompted_vit(num_tokens=4, depth=None, dropout=0.5).train()
    torch.manual_seed(1)
    first = model(pixel_values=pixels()).logits
    torch.manual_seed(1)
    assert torch.equal(model(pixel_values=pixels()).logits, first)
    assert not torch.equal(model(pixel_values=pixels()).logits, first)
