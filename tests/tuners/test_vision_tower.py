"""Learned tokens in a vision tower: the same as a sequence built by hand, and invisible to all that is downstream."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.rotation import rotate
from torch import nn
from transformers import BertConfig, BertModel
from transformers.utils import ModelOutput
from tuners.vision_models import BATCH, LAYERS, MODELS, WIDTH, inputs_of, make_model, slow_tower

from hf_sharp_prompt.tuners.vision_tokens import VisionTokens, widen_mask
from hf_sharp_prompt.tuners.vision_tower import VISION_TOWERS, find_vision_tower


NUMBER = 4
OF_TEXTS = {"input_ids"}


class Learned:
    """What a tuner is to the tower: the owner of the tokens, switched on and off."""

    def __init__(self, depth: int = 1, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(1)
        self.parameter = nn.Parameter(torch.randn(depth, NUMBER, WIDTH, generator=generator, dtype=dtype))
        self.enabled = True

    def tokens(self) -> torch.Tensor | None:
        return self.parameter if self.enabled else None


def prompted(model: nn.Module, depth: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Learned, VisionTokens]:
    learned = Learned(depth, dtype)
    return learned, VisionTokens(*find_vision_tower(model), learned.tokens)


def of_vision(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in OF_TEXTS}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).detach().abs().max() / expected.detach().abs().max())


def tensors(outputs: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(outputs, torch.Tensor):
        yield name, outputs
    elif isinstance(outputs, ModelOutput):
        for key, value in outputs.items():
            yield from tensors(value, f"{name}.{key}")
    elif isinstance(outputs, tuple | list):
        for index, value in enumerate(outputs):
            yield from tensors(value, f"{name}[{index}]")


def assert_same(outputs: Any, expected: Any, compare: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
    pairs = list(zip(tensors(outputs), tensors(expected), strict=True))
    assert pairs
    for (name, actual), (other, value) in pairs:
        assert name == other
        assert compare(actual, value), name


all_models = pytest.mark.parametrize("name", MODELS)


def test_every_known_type_is_tested():
    """Otherwise a type is promised that nobody tried."""
    assert {make_model(name).config.model_type for name in MODELS} == set(VISION_TOWERS)


@pytest.mark.parametrize(
    ("name", "depth"), [(name, 2) for name in MODELS] + rotate([*MODELS], [1, LAYERS]), ids=lambda value: str(value)
)
def test_features_and_gradients_are_those_of_slow_arithmetic(name, depth):
    """Otherwise tokens stand in the wrong place, are masked, biased or carried on, and learn something else.

    Each model meets tokens of two of its three layers; those of the first layer and of all take turns over the models,
    several of which share a tower.
    """
    model = make_model(name)
    tower, parts = find_vision_tower(model)
    learned, vision_tokens = prompted(model, depth)
    seen = []
    last_layer = tower.get_submodule(parts.layers)[-1]
    last_layer.register_forward_hook(lambda module, args, states: seen.append(states))
    inputs = of_vision(inputs_of(name))
    with vision_tokens.collect_outputs() as outputs:
        tower(**inputs)
    states = seen.pop()
    weights = torch.randn_like(states)
    weights_of_tokens = torch.randn_like(outputs[0])
    loss = (states * weights).sum() + (outputs[0] * weights_of_tokens).sum()
    (gradient,) = torch.autograd.grad(loss, learned.parameter)

    vision_tokens.remove()
    tokens = learned.parameter.detach().clone().requires_grad_()
    hidden_states, of_tokens = slow_tower(name, tower, inputs, tokens)
    loss = (hidden_states[-1] * weights).sum() + (of_tokens * weights_of_tokens).sum()
    (expected,) = torch.autograd.grad(loss, tokens)
    assert relative_error(states, hidden_states[-1]) < 1e-5
    assert relative_error(outputs[0], of_tokens) < 1e-5
    assert relative_error(gradient, expected) < 1e-5
    assert float(gradient.norm(dim=-1).min()) > 0, "every token of every layer matters"


@pytest.mark.parametrize(("name", "return_dict"), rotate([*MODELS], [True, False]))
def test_nothing_downstream_counts_the_tokens(name, return_dict):
    """Otherwise poolers, decoders and box grids meet a sequence of the wrong length, or hidden states grow."""
    model, inputs = make_model(name), inputs_of(name)
    arguments = {"return_dict": return_dict, "output_hidden_states": True}
    before = model(**inputs, **arguments)
    prompted(model, 2)
    after = model(**inputs, **arguments)
    assert_same(after, before, lambda actual, expected: actual.shape == expected.shape)
    floating = [
        (actual, expected)
        for (_, actual), (_, expected) in zip(tensors(after), tensors(before))
        if actual.is_floating_point()
    ]
    assert any(not torch.allclose(actual, expected) for actual, expected in floating), "and they have an effect"


@pytest.mark.parametrize(("name", "recorded_before"), rotate([*MODELS], [True, False]))
def test_hidden_states_are_those_of_slow_arithmetic(name, recorded_before):
    """Otherwise what is built on hidden states (segmentation, probing) reads other tokens than the image's."""
    model, inputs = make_model(name), of_vision(inputs_of(name))
    if recorded_before:  # transformers puts its own hooks on the layers when it is first asked to record
        model(**inputs_of(name), output_hidden_states=True)
    learned, vision_tokens = prompted(model, 2)
    tower, parts = find_vision_tower(model)
    recorded = []
    recorder = tower.get_submodule(parts.recorder)
    recorder.register_forward_hook(lambda module, args, outputs: recorded.append(outputs.hidden_states))
    tower(**inputs, output_hidden_states=True)
    vision_tokens.remove()
    expected, _ = slow_tower(name, tower, inputs, learned.parameter)
    for actual, states in zip(recorded[0], expected, strict=True):
        assert relative_error(actual, states) < 1e-5


@all_models
def test_without_tokens_the_tower_is_as_it_was_bit_for_bit(name):
    """Otherwise a disabled prompt changes the base model."""
    model, inputs = make_model(name), inputs_of(name)
    before = model(**inputs, output_hidden_states=True)
    learned, vision_tokens = prompted(model, 2)
    learned.enabled = False
    assert_same(model(**inputs, output_hidden_states=True), before, torch.equal)
    learned.enabled = True
    vision_tokens.remove()
    assert_same(model(**inputs, output_hidden_states=True), before, torch.equal)
    hooks = [hook for module in find_vision_tower(model)[0].modules() for hook in module._forward_pre_hooks.values()]
    assert not hooks


# CLIPSeg's heads run the vision tower without gradients.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "CLIPSegForImageSegmentation"])
def test_gradient_checkpointing_gives_the_same(name):
    """Otherwise saving memory costs the gradient."""
    model, inputs = make_model(name), inputs_of(name)
    learned, _ = prompted(model, 2)

    def gradient() -> torch.Tensor:
        outputs = [each for _, each in tensors(model(**inputs)) if each.requires_grad]
        return torch.autograd.grad(sum((each**2).sum() for each in outputs), learned.parameter)[0]

    expected = gradient()
    model.train()
    for module in model.modules():  # dropout would differ
        if isinstance(module, nn.Dropout) or hasattr(module, "drop_prob"):
            module.eval()
    model.gradient_checkpointing_enable()
    tower, parts = find_vision_tower(model)
    calls = []
    tower.get_submodule(parts.layers)[0].mlp.register_forward_pre_hook(lambda *_: calls.append(None))
    actual = gradient()
    assert len(calls) == 2, "computed again in the backward pass"
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


# The prompts' own tests compile CLIP, ViT and DINOv2; DeiT's layers are ViT's.
@pytest.mark.parametrize("name", ["SiglipVisionModel", "BeitModel, relative"])
def test_compiled_it_gives_the_same(name):
    """Otherwise `torch.compile` cannot be used, or trains something else."""
    model, inputs = make_model(name), inputs_of(name)
    learned, _ = prompted(model, 2)
    expected = model(**inputs).last_hidden_state
    (expected_gradient,) = torch.autograd.grad((expected**2).sum(), learned.parameter)
    torch._dynamo.reset()
    actual = torch.compile(model, backend="aot_eager", fullgraph=True)(**inputs).last_hidden_state
    (gradient,) = torch.autograd.grad((actual**2).sum(), learned.parameter)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    scale = float(expected_gradient.abs().max())
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["ViTModel, masked", "Siglip2VisionModel", "BeitModel, shared relative"])
def test_either_attention_attends_to_the_same(name, attention):
    """Otherwise a mask of one attention's form hides the tokens, or the padding comes back."""
    model, inputs = make_model(name), inputs_of(name)
    learned, vision_tokens = prompted(model, 2)
    model.set_attn_implementation(attention)
    with vision_tokens.collect_outputs() as outputs:
        model(**inputs)
    vision_tokens.remove()
    _, expected = slow_tower(name, model, inputs, learned.parameter)
    torch.testing.assert_close(outputs[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["CLIPModel", "ViTForImageClassification", "BeitModel, relative"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_is_independent(name, duplicate):
    """Otherwise a copy (for an average of the weights, say) is prompted with the original's tokens."""
    model, inputs = make_model(name), inputs_of(name)
    learned, vision_tokens = prompted(model, 2)
    expected = model(**inputs)
    copied, copied_learned, copied_tokens = duplicate((model, learned, vision_tokens))
    with torch.no_grad():
        learned.parameter.zero_()
    assert_same(copied(**inputs), expected, torch.equal)
    copied_tokens.remove()
    copied_learned.enabled = learned.enabled = False
    assert_same(copied(**inputs), model(**inputs), torch.equal)


def test_dropout_is_drawn_for_every_image():
    """Otherwise all images of a batch lose the same entries, and the noise does not average out."""
    model, inputs = make_model("ViTModel"), inputs_of("ViTModel")
    learned = Learned()
    learned.parameter.data.fill_(1.0)
    VisionTokens(*find_vision_tower(model), learned.tokens, dropout=nn.Dropout(0.5))
    seen = []
    model.layers[0].layernorm_before.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, -NUMBER:]))
    model(**inputs)
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(seen[0][0], seen[0][1])


def test_tokens_join_in_the_precision_of_the_model():
    """Otherwise float32 prompts make a half-precision model fail or slow."""
    model, inputs = make_model("ViTModel", torch.bfloat16), inputs_of("ViTModel", torch.bfloat16)
    learned, _ = prompted(model)
    outputs = model(**inputs).last_hidden_state
    assert outputs.dtype == torch.bfloat16
    outputs.float().sum().backward()
    assert learned.parameter.grad.dtype == torch.float32


def test_outputs_are_collected_only_while_asked_for():
    """Otherwise the model holds on to activations of the last batch."""
    model, inputs = make_model("ViTModel"), inputs_of("ViTModel")
    _, vision_tokens = prompted(model)
    with vision_tokens.collect_outputs() as outputs:
        model(**inputs)
        model(**inputs)
    model(**inputs)
    assert [each.shape for each in outputs] == [(BATCH, NUMBER, WIDTH)] * 2


class TestErrors:
    def test_an_unknown_type(self):
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        message = (
            r"type 'bert' is not known; known are beit, clip, .*\. To add it, .*register_vision_tower\('bert', Vision"
        )
        with pytest.raises(ValueError, match=message):
            find_vision_tower(BertModel(BertConfig(**sizes, vocab_size=10)))

    def test_a_model_without_its_vision_tower(self):
        model = make_model("CLIPModel")
        del model.vision_model
        with pytest.raises(ValueError, match="CLIPModel has no vision tower: no module is named"):
            find_vision_tower(model)

    def test_a_mask_of_blocks(self):
        with pytest.raises(
            ValueError, match="cannot be added to a dict; load the model with attn_implementation='sdpa'"
        ):
            widen_mask({}, 2)


def test_a_type_that_a_user_adds_is_known(monkeypatch):
    """Otherwise models of one's own cannot be prompted."""
    model, inputs = make_model("ViTModel"), inputs_of("ViTModel")
    before = model(**inputs).last_hidden_state
    model.config.model_type = "my_vit"
    monkeypatch.setitem(VISION_TOWERS, "my_vit", VISION_TOWERS["vit"])
    prompted(model)
    assert not torch.allclose(model(**inputs).last_hidden_state, before)
