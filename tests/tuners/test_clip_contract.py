"""PEFT's contract over all designs on all CLIP-like models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn
from transformers import pipeline
from tuners import contract
from tuners.clip_designs import NAMES, PAIRS, TEMPLATE, make_config
from tuners.clip_models import (
    BUILT_ON,
    COMPARING,
    comparing_part,
    image_inputs,
    inputs_of,
    make_model,
    tokenizer_of,
)


LABELS = torch.tensor([1, 0])


class FeatureCase(contract.Case):
    """Models that return features instead of logits and a loss."""

    def logits(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return self.features(model)

    def loss(self, model: nn.Module) -> torch.Tensor:
        return self.features(model).square().mean()

    def features(self, model: nn.Module) -> torch.Tensor:
        output = model(**self.batch)
        return next(output[key] for key in ("text_embeds", "image_embeds", "pooler_output") if key in output)


class PartCase(FeatureCase):
    """Models that hold one which compares; parts of CLIPSeg's are run without a graph."""

    def features(self, model: nn.Module) -> torch.Tensor:
        part = comparing_part(model.get_base_model())
        texts = part.get_text_features(self.batch["input_ids"]).pooler_output
        images = part.get_image_features(self.batch["pixel_values"]).pooler_output
        return torch.cat([texts, images])


def a_case(design: str, name: str, **changes: Any) -> contract.Case:
    def make_base(dtype: torch.dtype) -> nn.Module:
        # SigLIP's pooling is torch's MultiheadAttention, whose last bits depend on whether its weights train.
        return make_model(name, dtype).requires_grad_(not name.startswith("Siglip"))

    def classifying(base: nn.Module, *args: Any, **kwargs: Any) -> PeftModel:
        model = get_peft_model(base, *args, **kwargs)
        model.set_classes(NAMES, tokenizer_of(name), TEMPLATE)
        return model

    arguments = make_base, lambda: make_config(design, name, **changes)
    if name in COMPARING:
        batch = image_inputs(name) | {"labels": LABELS}
        return contract.Case(*arguments, batch, classifying, inputs_of(name))
    if name in BUILT_ON:
        return PartCase(*arguments, inputs_of(name))
    if name.endswith("ForImageClassification"):
        return contract.Case(*arguments, inputs_of(name) | {"labels": LABELS})
    return FeatureCase(*arguments, inputs_of(name))


# CLIP's towers stand for the others' towers, which hold the same layers.
PARTS_OF_CLIP = ["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel", "CLIPVisionModelWithProjection"]
TRIED = [pair for pair in PAIRS if pair[1] in {*COMPARING, *BUILT_ON, *PARTS_OF_CLIP, "CLIPForImageClassification"}]


@pytest.mark.parametrize(
    ("design", "name", "check"),
    [pytest.param(*case, id=f"{case[2].__name__}-{case[0]}-{case[1]}") for case in contract.by_turns(TRIED)],
)
def test_contract(design: str, name: str, check: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PeftModel, "create_or_update_model_card", lambda *_: None)  # takes half of the time
    check(a_case(design, name), tmp_path)


@pytest.mark.parametrize(("design", "backend"), [("conditional, deep, vision", "eager"), (".maple()", "aot_eager")])
def test_compiled_it_gives_the_same(design: str, backend: str):
    """In one graph, as chunks whose size is said do not depend on the free memory; the Trainer's test has several."""
    contract.compiled_it_gives_the_same(a_case(design, "CLIPModel", class_chunk_size=len(NAMES)), backend)


DIFFERENT = {
    "coop": ".coop()",
    "maple": ".maple()",
    "cocoop": "conditional, front",
    "vpt": ".vpt()",
    "csc": "class-specific, deep",
    "ivlp": ".ivlp()",
}
TOKENIZER = tokenizer_of("CLIPModel")


class TestDifferentDesignsSideBySide:
    """Otherwise designs cannot be compared on one model, or one's tokens stay in the towers of another."""

    @pytest.fixture
    def model(self) -> PeftModel:
        model = get_peft_model(make_model("CLIPModel"), make_config(DIFFERENT["coop"]), "coop")
        for name, design in DIFFERENT.items():
            if name != "coop":
                model.add_adapter(name, make_config(design))
            model.set_adapter(name)
            model.set_classes(NAMES, TOKENIZER, TEMPLATE)
            contract.randomise(model)
        return model.eval()

    @pytest.fixture
    def alone(self, model: PeftModel) -> dict[str, torch.Tensor]:
        """What each of them says when it is the only one on a model."""
        logits = {}
        for name, design in DIFFERENT.items():
            single = get_peft_model(make_model("CLIPModel"), make_config(design), name)
            single.set_classes(NAMES, TOKENIZER, TEMPLATE)
            single.load_state_dict({key: model.state_dict()[key] for key in contract.trained(single)}, strict=False)
            logits[name] = self.logits(single.eval())
        return logits

    def logits(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model(**image_inputs("CLIPModel")).logits

    @pytest.mark.parametrize("order", [list(DIFFERENT), list(reversed(DIFFERENT))], ids=["there", "and back"])
    def test_switching_between_them(self, model, alone, order):
        for name in order:
            model.set_adapter(name)
            assert torch.equal(self.logits(model), alone[name]), name
            assert all(f".{name}" in key for key in contract.trained(model))

    def test_training_one_leaves_the_others(self, model, alone):
        for trained in ("maple", "coop"):
            model.set_adapter(trained)
            contract.a_step(a_case(DIFFERENT[trained], "CLIPModel"), model)
            assert not torch.equal(self.logits(model), alone[trained])
        for name in set(DIFFERENT) - {"maple", "coop"}:
            model.set_adapter(name)
            assert torch.equal(self.logits(model), alone[name]), name

    def test_deleting_them_one_after_the_other(self, model, alone):
        """The towers agree on which is active next: the first of those that are left."""
        model.set_adapter("vpt")
        for deleted, active in (("vpt", "coop"), ("coop", "maple"), ("csc", "maple"), ("maple", "cocoop")):
            if deleted in model.active_adapters:
                with pytest.warns(
                    UserWarning, match=f"{deleted} was active .* Setting active adapter to {active}"
                ) as told:
                    model.delete_adapter(deleted)
                assert len(told) == 1
            else:
                model.delete_adapter(deleted)
            assert model.active_adapters == model.base_model.active_adapters == [active]
            assert torch.equal(self.logits(model), alone[active]), f"after deleting {deleted}"
            assert not any(f".{deleted}" in key for key in model.state_dict())
            assert deleted not in model.get_base_model().text_model.embeddings.class_token_position

    def test_each_is_saved_alone_and_loaded_under_another_name(self, model, alone, tmp_path):
        model.save_pretrained(tmp_path)
        base = make_model("CLIPModel")
        loaded = PeftModel.from_pretrained(base, tmp_path / "vpt", "first")
        for name in DIFFERENT:
            loaded.load_adapter(tmp_path / name, f"the {name}")
            loaded.set_adapter(f"the {name}")
            assert torch.equal(self.logits(loaded.eval()), alone[name]), name

    def test_disabled_and_unloaded_it_is_the_base_model(self, model):
        inputs = inputs_of("CLIPModel")
        with torch.no_grad():
            expected = make_model("CLIPModel")(**inputs)
            for name in DIFFERENT:
                model.set_adapter(name)
                with model.disable_adapter():
                    contract.assert_equal_outputs(model(**inputs), expected)
            base = model.unload()
            contract.assert_equal_outputs(base(**inputs), expected)
        assert not any(contract.hooks_of(base))
        assert list(base.state_dict()) == list(make_model("CLIPModel").state_dict())


TEXT, VISION = "base_model.model.text_model.embeddings.", "base_model.model.vision_model.embeddings."
CONTEXT = TEXT + "clip_prompt_context"
META_NET = [
    f"{TEXT}clip_prompt_meta_net.{part}"
    for part in ("linear1.bias", "linear1.weight", "linear2.bias", "linear2.weight")
]
KEYS = {
    "end": [CONTEXT],
    "class-specific": [CONTEXT],
    "deep text": [CONTEXT, TEXT + "clip_prompt_deep_context"],
    "conditional": [CONTEXT, *META_NET],
    "vision, deep": [VISION + "clip_prompt_vision_tokens"],
    ".ivlp()": [CONTEXT, TEXT + "clip_prompt_deep_context", VISION + "clip_prompt_vision_tokens"],
    ".maple()": [
        CONTEXT,
        *(f"{TEXT}clip_prompt_coupling.{layer}.{part}" for layer in (0, 1) for part in ("bias", "weight")),
        TEXT + "clip_prompt_deep_context",
    ],
}


@pytest.mark.parametrize("adapter", ["default", "another"])
@pytest.mark.parametrize("design", KEYS)
def test_the_names_in_the_file_are_the_documented_ones(design, adapter, tmp_path):
    """Otherwise adapters that people have shared no longer load after an update, or only under one name."""
    model = get_peft_model(make_model("CLIPModel"), make_config(design), adapter)
    model.save_pretrained(tmp_path)
    folder = tmp_path if adapter == "default" else tmp_path / adapter
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == sorted(KEYS[design])


class TestConditionalWithTextsOfOnesOwn:
    """Otherwise stock code, which brings its own texts, gets CoCoOp's context without the image that shifts it."""

    @pytest.fixture
    def model(self) -> PeftModel:
        model = get_peft_model(make_model("CLIPModel"), make_config("conditional"))
        contract.randomise(model)
        model.set_classes(NAMES, TOKENIZER, TEMPLATE)
        return model.eval()

    @pytest.fixture
    def texts(self) -> dict[str, torch.Tensor]:
        return dict(TOKENIZER([TEMPLATE.replace("{}", name) for name in NAMES], padding=True, return_tensors="pt"))

    def test_every_text_is_encoded_for_every_image(self, model, texts):
        images = image_inputs("CLIPModel")
        output = model(**texts, **images)
        expected = model(**images).logits
        torch.testing.assert_close(output.logits_per_image, expected)
        assert torch.equal(output.logits_per_text, output.logits_per_image.T)
        assert (expected[0] - expected[1]).abs().max() > 1e-3
        by_position = model(texts["input_ids"], images["pixel_values"], texts["attention_mask"])
        assert torch.equal(by_position.logits_per_image, output.logits_per_image)

    def test_a_mask_given_by_position_is_respected(self, model, texts):
        pixel_values, mask = image_inputs("CLIPModel")["pixel_values"], texts["attention_mask"].clone()
        mask[:, 1] = 0
        by_name = model(input_ids=texts["input_ids"], pixel_values=pixel_values, attention_mask=mask)
        by_position = model(texts["input_ids"], pixel_values, mask)
        assert torch.equal(by_position.logits_per_image, by_name.logits_per_image)
        assert not torch.equal(by_name.logits_per_image, model(texts["input_ids"], pixel_values).logits_per_image)

    def test_the_stock_pipeline(self, model, images, image_processor):
        pipe = pipeline(
            "zero-shot-image-classification",
            model=model.get_base_model(),
            tokenizer=TOKENIZER,
            image_processor=image_processor,
        )
        expected = model(**image_processor(images, return_tensors="pt")).logits.softmax(-1)
        found = pipe(images, candidate_labels=NAMES, hypothesis_template=TEMPLATE)
        for of_image, row in zip(found, expected, strict=True):
            scores = {each["label"]: each["score"] for each in of_image}
            torch.testing.assert_close(torch.tensor([scores[name] for name in NAMES]), row, rtol=0, atol=1e-6)

    def test_without_an_image_the_context_is_as_it_is(self, model, texts):
        plain = get_peft_model(make_model("CLIPModel"), make_config("end"))
        shared = {key: value for key, value in model.state_dict().items() if key in plain.state_dict()}
        plain.load_state_dict(shared)
        assert torch.equal(model.get_text_features(**texts)[1], plain.get_text_features(**texts)[1])

    def test_it_has_no_contrastive_loss(self, model, texts):
        with pytest.raises(ValueError, match="has no contrastive loss; train it with labels, as a classifier"):
            model(**texts, **image_inputs("CLIPModel"), return_loss=True)


class Int8(nn.Module):
    """A linear layer or an embedding with weights of 8 bits, as bitsandbytes and others keep them."""

    def __init__(self, original: nn.Linear | nn.Embedding) -> None:
        super().__init__()
        self.kind, self.num_embeddings = type(original), getattr(original, "num_embeddings", None)
        self.out_features = getattr(original, "out_features", None)
        self.scale = original.weight.detach().abs().max() / 127
        self.weight = nn.Parameter((original.weight.detach() / self.scale).round().to(torch.int8), requires_grad=False)
        self.bias = getattr(original, "bias", None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        weight = self.weight.float() * self.scale
        if self.kind is nn.Embedding:
            return nn.functional.embedding(inputs, weight)
        return nn.functional.linear(inputs, weight, self.bias)


@pytest.mark.parametrize("design", [".coop()", "conditional, deep, vision", ".maple()", "class-specific, deep"])
def test_a_base_model_of_8_bits_trains_float32_prompts(design, tmp_path):
    """Otherwise models too large for a machine cannot be prompted. (No part of bitsandbytes is needed for it.)"""

    def quantised(dtype: torch.dtype) -> nn.Module:
        model = make_model("CLIPModel", dtype)
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) or name.endswith("token_embedding"):
                model.set_submodule(name, Int8(module))
        model.is_loaded_in_8bit = True
        return model

    case = a_case(design, "CLIPModel")
    case.make_base = quantised
    model = case.prompted()
    assert {parameter.dtype for parameter in contract.trained(model).values()} == {torch.float32}
    for check in (
        contract.disabled_it_is_the_base_model_bit_for_bit,
        contract.only_the_learned_parts_train,
        contract.a_loaded_adapter_gives_the_same_bits,
        contract.unload_gives_the_base_model_back,
    ):
        check(case, tmp_path)
    exact = a_case(design, "CLIPModel")
    torch.testing.assert_close(case.logits(model), exact.logits(exact.prompted()), rtol=0, atol=0.2)
    if model.active_peft_config.num_text_tokens:
        assert model.interpret_prompts(TOKENIZER, count=1)
