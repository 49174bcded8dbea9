"""Learned tokens and a head in vision transformers: what they compute, PEFT's verbs on them, and training."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertModel, CLIPVisionModel, ViTConfig, ViTModel
from tuners import contract
from tuners.vision_models import LAYERS, WIDTH, inputs_of, make_model, slow_tower

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments, ViTPromptConfig
from hf_sharp_prompt.tuners.vit_prompt import MODEL_POOLINGS


NAMES = ["beagle", "siamese", "pug"]
LABELS = torch.tensor([2, 0])

BARE = ["ViTModel", "DeiTModel", "BeitModel, relative", "Dinov2Model", "Dinov2WithRegistersModel"]
WITH_HEAD = [
    "ViTForImageClassification",
    "DeiTForImageClassification",
    "BeitForImageClassification",
    "Dinov2ForImageClassification",
    "Dinov2WithRegistersForImageClassification",
]
DESIGNS: dict[str, Callable[[], ViTPromptConfig]] = {
    "vpt shallow": lambda: ViTPromptConfig.vpt_shallow(num_tokens=4, class_names=NAMES),
    "vpt deep": lambda: ViTPromptConfig.vpt_deep(num_tokens=3, class_names=NAMES),
    "rsam-pt": lambda: ViTPromptConfig.rsam_pt(num_tokens=3, class_names=NAMES),
    "two layers, cosine": lambda: ViTPromptConfig(num_tokens=2, depth=2, head="cosine", scale=4.0, num_labels=3),
    "cls, linear": lambda: ViTPromptConfig(num_tokens=2, depth=2, pooling="cls", class_names=NAMES),
}
# Where the model has its own head.
OWN_HEAD: dict[str, Callable[[], ViTPromptConfig]] = {
    "own head": lambda: ViTPromptConfig(num_tokens=2, depth=2, head=None),
    "own head, trained": lambda: ViTPromptConfig(num_tokens=2, depth=None, head=None, modules_to_save=["classifier"]),
}
PAIRS = [
    *itertools.product(DESIGNS, BARE + WITH_HEAD),
    *itertools.product(OWN_HEAD, [*WITH_HEAD, "DeiTForImageClassificationWithTeacher"]),
]


def a_case(design: str, name: str) -> contract.Case:
    batch = inputs_of(name) | {"labels": LABELS % make_model(name).config.num_labels}
    return contract.Case(lambda dtype: make_model(name, dtype), (DESIGNS | OWN_HEAD)[design], batch)


def prompted(name: str, **config: Any) -> PeftModel:
    model = get_peft_model(make_model(name), ViTPromptConfig(**({"class_names": NAMES} | config)))
    contract.randomise(model)
    return model.eval()


def prompt_of(model: PeftModel) -> nn.Module:
    return model.base_model.prompt


@pytest.mark.parametrize(
    ("design", "name", "check"),
    [pytest.param(*case, id=f"{case[2].__name__}-{case[0]}-{case[1]}") for case in contract.by_turns(PAIRS)],
)
def test_contract(design: str, name: str, check: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PeftModel, "create_or_update_model_card", lambda *_: None)  # takes half of the time
    check(a_case(design, name), tmp_path)


# Compiling takes seconds; the towers' own tests compile the other types.
@pytest.mark.parametrize(
    ("design", "name", "backend"),
    [
        ("own head", "ViTForImageClassification", "aot_eager"),
        ("rsam-pt", "Dinov2WithRegistersForImageClassification", "eager"),
    ],
)
def test_compiled_it_gives_the_same(design: str, name: str, backend: str):
    contract.compiled_it_gives_the_same(a_case(design, name), backend)


def test_the_designs_are_tried_on_every_known_type():
    """Otherwise a type is promised that nobody tried."""
    assert {make_model(name).config.model_type for name in BARE} == set(MODEL_POOLINGS)
    assert {make_model(name).config.model_type for name in WITH_HEAD} == set(MODEL_POOLINGS)


class TestWhatItComputes:
    @pytest.mark.parametrize(("design", "name"), PAIRS)
    def test_logits_and_gradients_are_those_of_slow_arithmetic(self, design, name):
        """Otherwise the feature, the tokens' place or the head differ from what the papers describe."""
        case = a_case(design, name)
        model = case.prompted()
        config, names = model.peft_config["default"], list(contract.trained(model))
        logits = model(**case.inputs).logits
        weights = torch.randn_like(logits)
        gradients = torch.autograd.grad((logits * weights).sum(), list(contract.trained(model).values()))

        learned = {key: value.detach().clone().requires_grad_() for key, value in contract.trained(model).items()}
        base = model.unload()
        for key, value in learned.items():  # a copy of the base model's own head, where that is trained
            if "modules_to_save" in key:
                own_head, _, parameter = key.removeprefix("base_model.model.").partition(".modules_to_save.default.")
                base.get_submodule(own_head)._parameters[parameter] = value
        expected = slow_logits(name, base, config, learned, case.inputs)
        expected_gradients = torch.autograd.grad((expected * weights).sum(), [learned[key] for key in names])
        contract.assert_close(logits, expected)
        for actual, gradient in zip(gradients, expected_gradients, strict=True):
            contract.assert_close(actual, gradient)

    @pytest.mark.parametrize("name", WITH_HEAD)
    def test_the_models_own_pooling_is_what_its_own_head_sees(self, name):
        """Otherwise a head over the model's pooling is given something that the model never pools."""
        model = prompted(name)
        seen = []
        model.get_base_model().classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        model.base_model._base_forward(**inputs_of(name))
        head = prompt_of(model).active_head
        torch.testing.assert_close(model(**inputs_of(name)).logits, head(seen[0]))

    @pytest.mark.parametrize("name", [*BARE, *WITH_HEAD])
    def test_larger_images_are_interpolated_as_by_the_model(self, name):
        """Otherwise prompts only work at the resolution that the model was trained at."""
        family = {"Beit": "BeitModel, relative, larger images", "ViT": "ViTModel, larger images"}
        inputs = inputs_of(next((value for key, value in family.items() if name.startswith(key)), "ViTModel"))
        if name.startswith("DeiT"):
            inputs = inputs_of("ViTModel, larger images")
        elif name.startswith("Dinov2"):
            inputs = inputs_of("Dinov2Model, larger images")
        assert prompted(name)(**inputs).logits.isfinite().all()

    def test_loss_is_cross_entropy_and_needs_labels(self):
        """Otherwise losses are not those of classification, or inference needs labels."""
        model = prompted("ViTModel")
        output = model(**inputs_of("ViTModel"), labels=LABELS)
        torch.testing.assert_close(output.loss, cross_entropy(output.logits, LABELS))
        assert model(**inputs_of("ViTModel")).loss is None

    @pytest.mark.parametrize("name", ["ViTModel", "BeitForImageClassification"])
    @pytest.mark.parametrize("head", ["linear", None])
    def test_a_micro_batch_contributes_its_share_of_the_batch(self, name, head):
        """Otherwise accumulated gradients weigh the last, smaller micro-batch too much."""
        if head is None and name == "ViTModel":
            name = "ViTForImageClassification"
        model = prompted(name, head=head, class_names=NAMES if head else None)
        pixel_values = torch.cat([inputs_of(name)["pixel_values"]] * 2)[:3]
        labels = torch.tensor([1, 0, 1])
        whole = model(pixel_values=pixel_values, labels=labels).loss
        parts = [
            model(pixel_values=pixel_values[rows], labels=labels[rows], num_items_in_batch=3).loss
            for rows in (slice(0, 2), slice(2, 3))
        ]
        torch.testing.assert_close(sum(parts), whole)

    def test_hidden_states_and_attentions_come_with_the_logits(self):
        """Otherwise what is built on them has to run the model again."""
        for name in ("ViTModel", "ViTForImageClassification"):
            model = prompted(name)
            model.set_attn_implementation("eager")
            output = model(**inputs_of(name), output_hidden_states=True, output_attentions=True)
            assert [states.shape for states in output.hidden_states] == [(2, 10, WIDTH)] * (LAYERS + 1)
            assert len(output.attentions) == LAYERS
            logits, hidden_states = model(**inputs_of(name), output_hidden_states=True, return_dict=False)
            torch.testing.assert_close(logits, output.logits)
            assert len(hidden_states) == LAYERS + 1

    def test_dropout_of_tokens_and_feature_is_in_training_alone(self):
        """Otherwise predictions are noisy, or training is without the noise that was asked for."""
        for dropout in ({"dropout": 0.5}, {"head_dropout": 0.5}):
            model, inputs = prompted("ViTModel", **dropout), inputs_of("ViTModel")
            assert torch.equal(model(**inputs).logits, model(**inputs).logits)
            model.train()
            assert not torch.equal(model(**inputs).logits, model(**inputs).logits)

    def test_tokens_begin_as_in_vpt(self):
        """Otherwise learning starts from tokens too small or too large, and published settings do not fit."""
        model = get_peft_model(make_model("ViTModel"), ViTPromptConfig(num_tokens=400, class_names=NAMES))
        tokens = prompt_of(model).active_tokens()
        bound = math.sqrt(6 / (3 * 8 * 8 + WIDTH))
        assert 0.99 * bound < float(tokens.abs().max()) <= bound
        assert abs(float(tokens.std()) - bound / math.sqrt(3)) < 0.01 * bound

    def test_the_cosine_heads_logits_are_scaled_cosines(self):
        """Otherwise losses with margins, which need the cosines, cannot be put on top."""
        model = prompted("ViTModel", head="cosine", scale=5.0)
        logits = model(**inputs_of("ViTModel")).logits / model.peft_config["default"].scale
        tuner = model.base_model
        features = tuner._class_features(tuner.prompt.active_config, **inputs_of("ViTModel"))[0]
        weight = prompt_of(model).active_head.weight
        torch.testing.assert_close(logits, torch.cosine_similarity(features[:, None], weight[None], dim=-1))


class TestPublishedSettings:
    def test_constructors_have_the_papers_numbers(self):
        """Otherwise a run under a paper's name is another experiment."""
        shallow, deep, rsam = (
            getattr(ViTPromptConfig, each)(num_labels=100) for each in ("vpt_shallow", "vpt_deep", "rsam_pt")
        )
        assert (shallow.num_tokens, shallow.depth, shallow.pooling, shallow.head) == (50, 1, "model", "linear")
        assert (deep.num_tokens, deep.depth, deep.pooling, deep.head) == (50, None, "model", "linear")
        assert (rsam.num_tokens, rsam.depth, rsam.pooling, rsam.head) == (10, None, "cls_prompt", "cosine")
        assert (rsam.scale, rsam.head_dropout, rsam.dropout) == (25.0, 0.1, 0.0)
        assert (shallow.init, deep.init, rsam.init) == ("xavier", "xavier", "trunc_normal")

    @pytest.mark.parametrize(
        ("init", "bound", "deviation"),
        [
            ("xavier", math.sqrt(6 / (3 * 8 * 8 + WIDTH)), math.sqrt(2 / (3 * 8 * 8 + WIDTH))),
            # A normal cut at two deviations keeps 0.8796 of its deviation.
            ("trunc_normal", 0.04, 0.8796 * 0.02),
        ],
    )
    def test_tokens_are_initialised_as_published(self, init, bound, deviation):
        """Otherwise a run under a paper's name starts elsewhere."""
        config = ViTPromptConfig(num_tokens=300, init=init, class_names=NAMES)
        tokens = prompt_of(get_peft_model(make_model("ViTModel"), config)).active_tokens()
        assert 0.95 * bound < float(tokens.detach().abs().max()) <= bound
        assert float(tokens.detach().std()) == pytest.approx(deviation, rel=0.05)

    @pytest.mark.parametrize(("design", "count"), [("vpt_shallow", 50 * 768), ("vpt_deep", 12 * 50 * 768)])
    def test_parameters_at_vit_b_16(self, design, count):
        """The paper's 0.038 M and 0.46 M; otherwise tables of trained parameters do not compare."""
        with torch.device("meta"):
            model = get_peft_model(ViTModel(ViTConfig()), getattr(ViTPromptConfig, design)(num_labels=10))
        assert prompt_of(model).active_tokens().numel() == count


class TestNames:
    """Otherwise adapters saved today cannot be read tomorrow."""

    @pytest.mark.parametrize(
        ("name", "tower", "head", "keys"),
        [
            ("ViTModel", "", "cosine", ["head.weight", "tokens"]),
            ("ViTForImageClassification", "vit.", "linear", ["head.bias", "head.weight", "tokens"]),
            ("DeiTForImageClassification", "deit.", "cosine", ["head.weight", "tokens"]),
            ("BeitForImageClassification", "beit.", "cosine", ["head.weight", "tokens"]),
            ("Dinov2ForImageClassification", "dinov2.", None, ["tokens"]),
        ],
    )
    def test_of_the_saved_file(self, name, tower, head, keys, tmp_path):
        model = prompted(name, head=head, class_names=NAMES if head else None)
        model.save_pretrained(tmp_path)
        with safe_open(tmp_path / "adapter_model.safetensors", framework="pt") as file:
            assert sorted(file.keys()) == [f"base_model.model.{tower}prompt.vit_prompt_{key}" for key in keys]

    def test_of_the_state_dict(self):
        base = make_model("ViTForImageClassification")
        before = set(base.state_dict())
        model = get_peft_model(base, ViTPromptConfig(class_names=NAMES))
        names = {name.removeprefix("base_model.model.") for name in model.state_dict()}
        assert before < names, "the base model's own are as they were"
        assert names - before == {
            "vit.prompt.vit_prompt_tokens.default",
            "vit.prompt.vit_prompt_head.default.weight",
            "vit.prompt.vit_prompt_head.default.bias",
        }

    def test_of_the_classes(self, tmp_path):
        model = prompted("ViTModel")
        model.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        assert (config["class_names"], config["num_labels"]) == (NAMES, 3)
        assert config["base_model_sizes"] == {"model": "ViTModel", "width": WIDTH, "layers": LAYERS}


class TestAdapters:
    def test_of_different_designs_share_a_model(self):
        """Otherwise designs cannot be compared on one base model."""
        model = prompted("ViTForImageClassification", num_tokens=2)
        first = model(**inputs_of("ViTModel")).logits
        model.add_adapter("deep", ViTPromptConfig.rsam_pt(num_labels=7))
        model.add_adapter("own", ViTPromptConfig(head=None, depth=3))
        model.eval()
        model.set_adapter("deep")
        assert model(**inputs_of("ViTModel")).logits.shape == (2, 7)
        model.set_adapter("own")
        assert model(**inputs_of("ViTModel")).logits.shape == (2, 2)
        model.set_adapter("default")
        assert torch.equal(model(**inputs_of("ViTModel")).logits, first)

    def test_unload_gives_back_a_forward_that_was_there_before(self):
        """Otherwise the hooks that Accelerate put on a dispatched model are lost."""
        model = make_model("ViTModel")
        forward = model.forward
        model.forward = wrapped = lambda *args, **kwargs: forward(*args, **kwargs)
        get_peft_model(model, ViTPromptConfig(class_names=NAMES)).unload()
        assert model.forward is wrapped

    def test_a_backbone_gives_prompted_feature_maps(self):
        """Otherwise detection and segmentation on a prompted backbone have to do without."""
        before = make_model("Dinov2Backbone")(**inputs_of("Dinov2Backbone")).feature_maps
        model = prompted("Dinov2Backbone", head=None, class_names=None)
        after = model(**inputs_of("Dinov2Backbone")).feature_maps
        assert [each.shape for each in after] == [each.shape for each in before]
        assert not torch.allclose(after[-1], before[-1])


class TestTraining:
    @pytest.mark.parametrize(
        ("design", "rule"),
        [("vpt shallow", "none"), ("vpt shallow", "gcsam"), ("rsam-pt", "sam"), ("rsam-pt", "gnm")],
    )
    def test_the_trainer_lowers_the_loss(self, rule, design, tmp_path):
        """Otherwise a ViT prompt cannot be trained like any other."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(12, 3, 24, 24, generator=generator)
        data = [{"pixel_values": image, "labels": index % 3} for index, image in enumerate(images)]
        model = get_peft_model(make_model("ViTForImageClassification"), DESIGNS[design]())
        held = {name: value.clone() for name, value in model.state_dict().items() if "vit_prompt" not in name}
        arguments = SharpPromptTrainingArguments(
            str(tmp_path),
            sharpness=rule,
            per_device_train_batch_size=6,
            gradient_accumulation_steps=2,
            max_steps=12,
            learning_rate=0.01,
            optim="sgd",
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
        )
        trainer = SharpPromptTrainer(model, arguments, train_dataset=data, eval_dataset=data)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        assert trainer.evaluate()["eval_loss"] < before
        assert all(torch.equal(model.state_dict()[name], value) for name, value in held.items())
        trainer.save_model(tmp_path / "saved")
        card = (tmp_path / "saved" / "README.md").read_text()
        assert "pipeline_tag: image-classification" in card
        assert "from transformers import AutoImageProcessor, ViTForImageClassification" in card
        assert "context tokens" not in card
        loaded = PeftModel.from_pretrained(make_model("ViTForImageClassification"), tmp_path / "saved").eval()
        pixels = {"pixel_values": images}
        assert torch.equal(loaded(**pixels).logits, model.eval()(**pixels).logits)


class TestErrors:
    """Otherwise users meet a shape error deep in the model, or no error and a prompt that learns nothing."""

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"num_tokens": 0}, "num_tokens must be a positive integer, got 0"),
            ({"num_tokens": 2.0}, "num_tokens must be a positive integer, got 2.0"),
            ({"depth": 0}, "depth must be a positive integer or None for every layer, got 0"),
            ({"depth": True}, "depth must be a positive integer"),
            ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
            ({"head_dropout": -0.1}, "head_dropout must be at least 0 and below 1"),
            ({"scale": 0}, "scale must be positive, got 0"),
            ({"pooling": "mean"}, "pooling must be one of model, cls, cls_prompt, got 'mean'"),
            ({"init": "zeros"}, "init must be one of xavier, trunc_normal, got 'zeros'"),
            ({"head": "mlp"}, "head must be one of linear, cosine or None for the model's own, got 'mlp'"),
            ({"class_names": None}, "head='linear' needs classes: give class_names, or num_labels"),
            ({"class_names": ["cat"]}, "at least two classes, got num_labels=1"),
            ({"class_names": "cat"}, "class_names must be a list, .* got 'cat'"),
            ({"class_names": ["cat", "dog", "cat"]}, r"these stand more than once: \['cat'\]"),
            ({"class_names": ["sea lion", "dog", "sea  lion "]}, r"more than once: \['sea  lion ', 'sea lion'\]"),
            ({"class_names": ["cat", " "]}, r"Class 1 has no name \(' '\); name it"),
            ({"num_labels": 4}, "num_labels is 4, but there are 3 class_names; leave num_labels out"),
            ({"class_names": None, "num_labels": "3"}, "num_labels must be an integer or None, got '3'"),
            ({"head": None}, "class_names and num_labels describe the adapter's head, but head is None"),
            ({"head": None, "class_names": None, "pooling": "cls"}, "pooling='cls' makes features for a head of the"),
        ],
    )
    def test_a_config_without_meaning(self, config, message):
        with pytest.raises(ValueError, match=message):
            ViTPromptConfig(**({"class_names": NAMES} | config))

    def test_more_layers_than_there_are(self):
        """And the base model is as it was."""
        base = make_model("ViTModel")
        with pytest.raises(ValueError, match="depth is 4, but ViTModel has 3 layers; the most that fits is depth=3"):
            get_peft_model(base, ViTPromptConfig(depth=4, class_names=NAMES))
        assert not hasattr(base, "prompt")
        assert "forward" not in vars(base)

    def test_a_model_of_unknown_type(self):
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        message = (
            "does not know models of type 'bert'; it knows beit, deit, dinov2, dinov2_with_registers, vit. .*To add"
        )
        with pytest.raises(ValueError, match=message):
            get_peft_model(BertModel(BertConfig(**sizes, vocab_size=10)), ViTPromptConfig(class_names=NAMES))
        clip = make_model("CLIPVisionModel")
        assert isinstance(clip, CLIPVisionModel)
        with pytest.raises(ValueError, match=r"'clip_vision_model'; .*CLIP-like models take CLIPPromptConfig"):
            get_peft_model(clip, ViTPromptConfig(class_names=NAMES))

    def test_a_head_on_a_backbone(self):
        with pytest.raises(ValueError, match="needs class features, but Dinov2Backbone gives feature maps; set head="):
            prompted("Dinov2Backbone")

    def test_labels_without_any_head(self):
        model = prompted("ViTModel", head=None, class_names=None)
        with pytest.raises(ValueError, match="Neither the adapter nor ViTModel has a head to classify with; set head"):
            model(**inputs_of("ViTModel"), labels=LABELS)

    def test_a_pooling_layer_that_is_not_there(self):
        base = make_model("BeitModel")
        base.pooler = None
        model = get_peft_model(base, ViTPromptConfig(class_names=NAMES))
        with pytest.raises(ValueError, match=r"needs the model's pooling layer, .* use pooling='cls'"):
            model(**inputs_of("BeitModel"))

    @pytest.mark.parametrize(
        ("sizes", "here"),
        [
            ({"hidden_size": 8}, "ViTForImageClassification of width 8 with 3 layers"),
            ({"num_hidden_layers": 2}, "ViTForImageClassification of width 16 with 2 layers"),
        ],
    )
    def test_an_adapter_of_another_width_or_number_of_layers(self, sizes, here, tmp_path):
        model = prompted("ViTForImageClassification")
        model.save_pretrained(tmp_path)
        base = model.unload()
        other = type(base)(type(base.config)(**(base.config.to_dict() | sizes)))
        message = rf"made for a ViTForImageClassification of width 16 with 3 layers, but the model is a {here}\. Load"
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(other, tmp_path)
        assert not hasattr(other.vit, "prompt")

    @pytest.mark.parametrize("other", ["DeiTForImageClassification", "ViTModel"])
    def test_an_adapter_of_another_architecture(self, other, tmp_path):
        prompted("ViTForImageClassification").save_pretrained(tmp_path)
        message = f"made for a ViTForImageClassification of .*, but the model is a {other} of"
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(make_model(other), tmp_path)

    def test_an_adapter_whose_config_is_not_its_own(self, tmp_path):
        prompted("ViTModel", num_tokens=4).save_pretrained(tmp_path)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"num_tokens": 6}))
        with pytest.raises(ValueError, match=r"vit_prompt_tokens' is 1 × 4 × 16 in its file, but .* it is 1 × 6 × 16"):
            PeftModel.from_pretrained(make_model("ViTModel"), tmp_path)

    def test_two_prompts_at_once(self):
        model = prompted("ViTModel")
        model.add_adapter("other", ViTPromptConfig(class_names=NAMES))
        with pytest.raises(ValueError, match="One prompt adapter can be active at a time"):
            model.base_model.set_adapter(["default", "other"])


def slow_logits(
    name: str, base: nn.Module, config: ViTPromptConfig, learned: dict[str, torch.Tensor], inputs: dict[str, Any]
) -> torch.Tensor:
    """A sequence built by hand, pooled by hand, and a head of sums, from the learned parts by name."""
    tokens, weight, bias = (
        next((value for key, value in learned.items() if part in key), None)
        for part in ("vit_prompt_tokens", "vit_prompt_head.default.weight", "vit_prompt_head.default.bias")
    )
    tower = next((module for key, module in base.named_children() if hasattr(module, "embeddings")), base)
    hidden_states, of_tokens = slow_tower(name, tower, inputs, tokens)
    states = tower.layernorm(hidden_states[-1])
    registers = getattr(base.config, "num_register_tokens", 0)
    if config.pooling == "cls":
        feature = states[:, 0]
    elif config.pooling == "cls_prompt":
        feature = (states[:, 0] + sum(of_tokens.unbind(1)) / of_tokens.shape[1]) / 2
    elif "Dinov2" in name:
        patches = states[:, 1 + registers :]
        feature = torch.cat([states[:, 0], sum(patches.unbind(1)) / patches.shape[1]], dim=1)
    elif "Beit" in name:
        patches = hidden_states[-1][:, 1:]
        feature = tower.pooler.layernorm(sum(patches.unbind(1)) / patches.shape[1])
    else:
        feature = states[:, 0]
    if config.head is None and name.endswith("WithTeacher"):
        return (base.cls_classifier(states[:, 0]) + base.distillation_classifier(states[:, 1])) / 2
    if config.head is None:
        return base.classifier(feature)
    if config.head == "cosine":
        cosines = [torch.cosine_similarity(feature, of_class[None], dim=-1) for of_class in weight]
        return config.scale * torch.stack(cosines, dim=1)
    return torch.stack([(feature * of_class).sum(-1) for of_class in weight], dim=1) + bias
