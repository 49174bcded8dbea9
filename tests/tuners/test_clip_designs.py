"""Every design on every CLIP-like model computes what a slow implementation does, text by text and image by image."""

from __future__ import annotations

import functools
from itertools import product
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from support.rotation import rotate
from torch import nn
from torch.nn.functional import cross_entropy
from tuners import slow_clip
from tuners.clip_designs import DESIGNS, NAMES, PAIRS, TEMPLATE, make_config
from tuners.clip_models import (
    BUILT_ON,
    COMPARING,
    LAYERS,
    clip_tokenizer,
    comparing_part,
    image_inputs,
    make_model,
    reads,
    sees,
    text_inputs,
    tokenizer_of,
)

from hf_sharp_prompt import CLIPPromptConfig


LABELS = torch.tensor([2, 0])
TEXTS = ["a blue heart, on the moon!", "cat", "red"]
FLOAT64 = 1e-10
FRONT_OR_MIDDLE = ["middle", "front", "class-specific, middle", "conditional, front"]
TEMPLATES = ["{}", "{}.", "a {}", "a {}, drawn"]


def prompted(design: str, name: str, dtype: torch.dtype = torch.float64) -> PeftModel:
    """With prompts large enough that their places and positions matter."""
    model = get_peft_model(make_model(name, dtype), make_config(design, name))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in slow_clip.parameters_of(model).items():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
            if key == "meta_net.linear1.bias":
                parameter += 1  # so that its ReLU lets something through
    return model


def assert_same(
    actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], prompts: dict[str, torch.Tensor]
) -> None:
    """Outputs and, of their sum with random weights, the gradients with respect to every prompt parameter."""
    assert actual.keys() == expected.keys()
    gradients = []
    for outputs in (actual, expected):
        generator = torch.Generator().manual_seed(2)
        weighted = [
            (each * torch.randn(each.shape, generator=generator, dtype=each.dtype)).sum() for each in outputs.values()
        ]
        gradients.append(torch.autograd.grad(sum(weighted), list(prompts.values())))
    for key in actual:
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=FLOAT64)
    for key, gradient, by_hand in zip(prompts, *gradients, strict=True):
        assert by_hand.norm() > 0, f"the outputs depend on {key}"
        torch.testing.assert_close(gradient, by_hand, rtol=0, atol=FLOAT64 * float(by_hand.norm()))


@functools.cache
def untouched(name: str) -> nn.Module:
    return make_model(name, torch.float64).requires_grad_(False)


class Slow:
    """What a prompted model computes, with an untouched copy of the model's own modules."""

    def __init__(
        self, name: str, config: CLIPPromptConfig, prompts: dict[str, torch.Tensor], template: str = TEMPLATE
    ) -> None:
        model = untouched(name)
        self.tokenizer = tokenizer_of(name)
        self.inputs = image_inputs(name, torch.float64)
        self.config, self.prompts, self.template = config, prompts, template
        self.model = comparing_part(model)
        if reads(name):
            self.text_tower = find(self.model, "text_model")
        if sees(name):
            self.vision_tower = find(self.model, "vision_model")

    def image_features(self) -> torch.Tensor:
        tokens = slow_clip.vision_tokens(self.config, self.prompts, self.vision_tower)
        arguments = self.model, self.vision_tower, self.inputs
        return torch.stack([slow_clip.image_feature(*arguments, image, tokens) for image in range(len(LABELS))])

    def text_feature(
        self, text: str, context: torch.Tensor | None = None, name_ends_at: str | None = None
    ) -> torch.Tensor:
        """Args: the context in place of the adapter's; the text up to its class name's end, by default all of it."""
        name_end = None if name_ends_at is None else len(self.tokenizer(name_ends_at).input_ids) - 1
        return slow_clip.text_feature(
            self.model,
            self.text_tower,
            self.tokenizer(text).input_ids,
            self.prompts.get("context") if context is None else context,
            slow_clip.deep_context(self.prompts),
            self.config.class_token_position,
            name_end,
        )

    def class_features(self, image_feature: torch.Tensor) -> torch.Tensor:
        """For one, normalised, image: classes × width."""
        features = []
        for index, name in enumerate(NAMES):
            context = self.prompts.get("context")
            if self.config.class_specific:
                context = context[index]
            if self.config.conditional:
                context = slow_clip.shifted(self.prompts, image_feature)
            up_to_name = self.template.split("{}")[0] + name
            features.append(self.text_feature(self.template.replace("{}", name), context, up_to_name))
        return torch.stack(features)

    def logits(self) -> torch.Tensor:
        rows = []
        for image_feature in self.image_features():
            image_feature = image_feature / image_feature.norm()
            class_features = self.class_features(image_feature)
            rows.append(torch.stack([each @ image_feature / each.norm() for each in class_features]))
        logits = self.model.logit_scale.exp() * torch.stack(rows)
        return logits + self.model.logit_bias if hasattr(self.model, "logit_bias") else logits


def find(model: nn.Module, name: str) -> nn.Module:
    """A tower: where the model has it, or the model itself; OWL-ViT's lie one deeper."""
    tower = getattr(model, name, model)
    return getattr(tower, name, tower)


def pooled(output: Any) -> torch.Tensor:
    """What the output has of these, the most processed first."""
    return next(output[key] for key in ("logits", "text_embeds", "image_embeds", "pooler_output") if key in output)


def classifies(design: str, name: str) -> bool:
    """Which of two references a pair meets: where both are possible, they take turns over designs and models."""
    if name not in COMPARING or make_config(design).class_specific:
        return name in COMPARING
    return (DESIGNS.index(design) + [*COMPARING].index(name)) % 2 == 0


@pytest.mark.parametrize(("design", "name"), [pair for pair in PAIRS if classifies(*pair)])
def test_classification_is_that_of_slow_arithmetic(design, name):
    """Otherwise the context's place, a mask, positions, a projection or a layer is off, and accuracies are wrong."""
    model = prompted(design, name)
    model.set_classes(NAMES, tokenizer_of(name), TEMPLATE)
    output = model(**image_inputs(name, torch.float64), labels=LABELS)

    prompts = slow_clip.parameters_of(model)
    logits = Slow(name, model.active_peft_config, prompts).logits()
    expected = {"logits": logits, "loss": cross_entropy(logits, LABELS)}
    assert_same({"logits": output.logits, "loss": output.loss}, expected, prompts)


@pytest.mark.parametrize(("design", "name"), [pair for pair in PAIRS if not classifies(*pair)])
def test_features_are_those_of_slow_arithmetic_and_disabled_those_of_the_base_model(design, name):
    """Otherwise any other use of a prompted model, or of one of its towers, sees something else than was learned."""
    model = prompted(design, name)
    config, prompts = model.active_peft_config, slow_clip.parameters_of(model)
    slow = Slow(name, config, prompts)
    base = comparing_part(model.get_base_model())
    of_images = getattr(base, "get_image_features", base)
    of_texts = getattr(base, "get_text_features", base)

    actual, expected = {}, {}
    if sees(name):
        actual["images"] = pooled(of_images(**slow.inputs))
        expected["images"] = slow.image_features()
    if reads(name):
        actual["texts"] = pooled(of_texts(**text_inputs(name, TEXTS)))
        expected["texts"] = torch.stack([slow.text_feature(text) for text in TEXTS])
    used = {key: value for key, value in prompts.items() if "meta_net" not in key}
    assert_same(actual, expected, used)

    with torch.no_grad(), model.disable_adapter():
        if sees(name):
            of_untouched = getattr(slow.model, "get_image_features", slow.model)
            assert torch.equal(pooled(of_images(**slow.inputs)), pooled(of_untouched(**slow.inputs)))
        if reads(name):
            of_untouched = getattr(slow.model, "get_text_features", slow.model)
            texts = text_inputs(name, TEXTS)
            assert torch.equal(pooled(of_texts(**texts)), pooled(of_untouched(**texts)))


@pytest.mark.parametrize(
    ("design", "template", "name"),  # models take turns: a template is tokenized before any model sees it
    [
        (*pair, name)
        for pair, name in rotate([*product(FRONT_OR_MIDDLE, TEMPLATES)], ["CLIPModel", "OwlViTModel", "SiglipModel"])
    ],
)
def test_the_context_stands_behind_the_name_and_the_rest_of_the_template_behind_it(design, template, name):
    """As in CoOp's code, whose "front" is `[SOS] name V1 … Vn . [EOS]`; otherwise its prompts mean something else."""
    model = prompted(design, name)
    model.set_classes(NAMES, tokenizer_of(name), template)
    prompts = slow_clip.parameters_of(model)
    logits = Slow(name, model.active_peft_config, prompts, template).logits()
    output = model(**image_inputs(name, torch.float64))
    assert_same({"logits": output.logits}, {"logits": logits}, prompts)


@pytest.mark.parametrize("name", BUILT_ON)
@pytest.mark.parametrize("design", ["front", ".ivlp()", ".maple()"])
def test_what_is_built_on_a_prompted_model_gets_its_features(design, name):
    """Otherwise segments and boxes are found with features that were not prompted, or counted with the tokens in."""
    model = prompted(design, name)
    slow = Slow(name, model.active_peft_config, slow_clip.parameters_of(model))
    texts = text_inputs(name, TEXTS[:2])
    output = model(**texts, **slow.inputs)
    expected = torch.stack([slow.text_feature(text) for text in TEXTS[:2]])
    if "Segmentation" in name:
        actual, images = output.conditional_embeddings, output.pooled_output
        assert output.logits.shape[:1] == (2,)
    else:  # one query for each of the two images
        actual, images = output.text_embeds[:, 0], output.vision_model_output.pooler_output
        images = slow.model.visual_projection(images)
        expected = expected / expected.norm(dim=-1, keepdim=True)
        assert output.pred_boxes.shape[:2] == (2, 9)
    torch.testing.assert_close(actual, expected, rtol=0, atol=FLOAT64)
    torch.testing.assert_close(images, slow.image_features(), rtol=0, atol=FLOAT64)


def test_segmentation_trains_a_prompt_through_its_embeddings():
    """CLIPSeg's own `forward` runs its CLIP without a graph, so that the Trainer would find nothing to train."""
    model = prompted("end", "CLIPSegForImageSegmentation")
    base, inputs = model.get_base_model(), image_inputs("CLIPSegModel", torch.float64)
    context = slow_clip.parameters_of(model)["context"]
    embeddings = base.clip.get_text_features(**text_inputs("CLIPSegModel", TEXTS[:2])).pooler_output
    made_outside = model(**inputs, conditional_embeddings=embeddings).logits
    made_inside = model(**text_inputs("CLIPSegModel", TEXTS[:2]), **inputs).logits
    gradients = [torch.autograd.grad(logits.square().mean(), context)[0] for logits in (made_outside, made_inside)]
    assert gradients[0].norm() > 0
    assert torch.equal(*gradients)
    assert torch.equal(made_outside, made_inside)


@pytest.mark.parametrize("name", ["SiglipModel", "Siglip2Model"])
def test_siglip_reads_its_last_position_whatever_the_padding(name):
    """Otherwise a prompted text pools a padding token too early or too late, or sees one that is masked."""
    model = prompted("end", name)
    prompts = slow_clip.parameters_of(model)
    slow = Slow(name, model.active_peft_config, prompts)
    ids = text_inputs(name, ["cat"])["input_ids"]
    mask = (torch.arange(ids.shape[1]) < 2).long()[None]
    hidden = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    tower = slow.text_tower
    table, positions = tower.embeddings.token_embedding.weight, tower.embeddings.position_embedding.weight
    states = torch.cat([prompts["context"], table[ids[0]]])[:20] + positions
    attended = torch.zeros(1, 1, 20, 20, dtype=states.dtype)
    attended[..., 5:] = -torch.inf  # behind three context tokens, the word and what closes the text
    for layer in tower.encoder.layers:
        states = layer(states[None], attended)[0]
    expected = tower.head(tower.final_layer_norm(states)[-1])
    torch.testing.assert_close(hidden[0], expected, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_coupling_is_computed_once_in_a_pass(checkpointing):
    """It was computed again wherever a layer asked how many tokens there are: 10 times where 3 are needed."""
    config = make_config("coupled", text_depth=LAYERS, vision_depth=LAYERS)
    model = get_peft_model(make_model("CLIPModel"), config)
    model.set_classes(NAMES, clip_tokenizer(), TEMPLATE)
    model.train(checkpointing)
    if checkpointing:
        model.gradient_checkpointing_enable()
    calls = []
    coupling = model.get_base_model().text_model.embeddings.clip_prompt_coupling["default"]
    for index, each in enumerate(coupling):
        each.register_forward_hook(lambda module, args, output, index=index: calls.append(index))
    loss = model(**image_inputs("CLIPModel"), labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert calls == [*range(LAYERS)]
    assert all(each.weight.grad.abs().sum() > 0 for each in coupling)
