"""PEFT's verbs on prompts, and what a call may choose for itself: an adapter, classes, an adapter for each row."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, pipeline
from transformers.modeling_layers import GradientCheckpointingLayer
from tuners import contract, vision_models
from tuners.clip_designs import NAMES, TEMPLATE, make_config
from tuners.clip_models import clip_tokenizer, image_inputs, make_model, text_inputs

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig
from hf_sharp_prompt.demo import VIT_PATH


FLOWERS = ["rose", "tulip", "daisy"]
CLIP_PIXELS = torch.cat([image_inputs("CLIPModel")["pixel_values"], torch.randn(3, 3, 48, 48)])
VIT_PIXELS = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def prompted_clip(design: str = "end", other: str = "middle") -> PeftModel:
    """With the adapters "default" and "other", each with the same classes."""
    model = get_peft_model(make_model("CLIPModel"), make_config(design))
    model.add_adapter("other", make_config(other))
    for name in ("other", "default"):
        model.set_adapter(name)
        model.set_classes(NAMES, clip_tokenizer(), TEMPLATE)
        contract.randomise(model, seed=len(name))
    return model.eval()


def prompted_vit(name: str = "ViTForImageClassification", other: dict[str, Any] | None = None) -> PeftModel:
    model = get_peft_model(vision_models.make_model(name), ViTPromptConfig.vpt_deep(num_tokens=2, class_names=FLOWERS))
    model.add_adapter("other", ViTPromptConfig(**({"num_tokens": 3, "class_names": ["a", "b", "c"]} | (other or {}))))
    for each in ("other", "default"):
        model.set_adapter(each)
        contract.randomise(model, seed=len(each))
    return model.eval()


PIXELS = {prompted_clip: CLIP_PIXELS, prompted_vit: VIT_PIXELS}
both = pytest.mark.parametrize(("make", "pixels"), PIXELS.items(), ids=["CLIP", "ViT"])


def requires_grad(model: nn.Module) -> dict[str, bool]:
    return {name: value.requires_grad for name, value in model.named_parameters()}


def switched(model: PeftModel, adapter: str, pixels: torch.Tensor) -> torch.Tensor:
    """The logits by PEFT's own switch, which is put back."""
    model.set_adapter(adapter)
    logits = model(pixel_values=pixels).logits.detach()
    model.set_adapter("default")
    return logits


class TestACallChoosesItsAdapter:
    @both
    def test_it_gets_what_the_switch_gives_and_switches_nothing(self, make, pixels):
        """Otherwise one user's choice of an adapter is everybody's."""
        model = make()
        expected = {name: switched(model, name, pixels) for name in ("default", "other")}
        before = requires_grad(model)
        for name, logits in expected.items():
            assert torch.equal(model.classify(pixels, adapter=name).logits, logits)
            assert torch.equal(model(pixel_values=pixels, adapter=name).logits, logits)
            with model.using_adapter(name):
                assert torch.equal(model(pixel_values=pixels).logits, logits)
        assert model.active_adapters == ["default"]
        assert requires_grad(model) == before

    def test_without_prompts_it_is_the_disabled_model(self):
        model = prompted_clip("independent")
        with model.disable_adapter():
            expected = model(pixel_values=CLIP_PIXELS).logits
        assert torch.equal(model.classify(CLIP_PIXELS, adapter="__base__").logits, expected)

    def test_it_may_train_the_adapter_it_chooses(self):
        """Otherwise an objective about another adapter has no gradient."""
        model = prompted_clip()
        model.set_requires_grad("other", True)
        model.classify(CLIP_PIXELS, labels=torch.tensor([0, 1, 2, 0, 1]), adapter="other").loss.backward()
        context = model.get_base_model().text_model.embeddings.clip_prompt_context
        assert context["default"].grad is None
        assert context["other"].grad.abs().sum() > 0

    def test_a_copied_module_follows_it(self):
        """A classifier that was trained with an adapter belongs to that adapter's answers."""
        base = vision_models.make_model("ViTForImageClassification")
        expected_base = base(VIT_PIXELS).logits
        config = {"head": None, "modules_to_save": ["classifier"]}
        model = get_peft_model(base, ViTPromptConfig(**config))
        model.add_adapter("other", ViTPromptConfig(**config))
        for name in ("other", "default"):
            model.set_adapter(name)
            contract.randomise(model, seed=len(name))
        model.eval()
        assert torch.equal(model.classify(VIT_PIXELS, adapter="other").logits, switched(model, "other", VIT_PIXELS))
        assert torch.equal(model.classify(VIT_PIXELS, adapter="__base__").logits, expected_base)

    @both
    def test_unknown_adapters_are_refused(self, make, pixels):
        with pytest.raises(ValueError, match="no prompt adapter 'mine'; there are 'default', 'other', and '__base__'"):
            make().classify(pixels, adapter="mine")

    @pytest.mark.parametrize("use_reentrant", [False, True])
    @pytest.mark.parametrize("make", [prompted_clip, prompted_vit])
    def test_under_gradient_checkpointing_it_has_the_same_gradient(self, make, use_reentrant):
        """The layers run again when the call is over."""
        arguments = ("deep text", "independent") if make is prompted_clip else ("ViTModel", {"pooling": "cls_prompt"})
        model, pixels = make(*arguments), PIXELS[make]
        model.set_requires_grad("other", True)
        labels, gradients = torch.tensor([0, 1, 2, 0, 1]), []
        for checkpointing in (False, True):
            if checkpointing:
                model.train().gradient_checkpointing_enable({"use_reentrant": use_reentrant})
                model.apply(lambda module: isinstance(module, nn.Dropout) and module.eval())
            model.zero_grad()
            model.classify(pixels, labels=labels, adapter="other").loss.backward()
            learned = {name: value for name, value in model.named_parameters() if ".other" in name}
            gradients.append({name: value.grad.clone() for name, value in learned.items()})
        for name, expected in gradients[0].items():
            contract.assert_close(gradients[1][name], expected)

    def test_where_hooks_run_again_it_is_refused(self, monkeypatch):
        """They would take the active adapter's tokens, and the gradient be another's."""
        monkeypatch.setattr(GradientCheckpointingLayer, "__call__", nn.Module.__call__, raising=False)
        model = prompted_clip("deep text").train()
        model.gradient_checkpointing_enable()
        with pytest.raises(ValueError, match="A call cannot choose its adapter under this version's gradient checkp"):
            model.classify(CLIP_PIXELS, adapter="other")
        with torch.no_grad():
            model.classify(CLIP_PIXELS, adapter="other")

    def test_it_chooses_its_classes(self):
        model, tokenizer = prompted_clip(), clip_tokenizer()
        with model.using_classes(["dog", "tree"], tokenizer, "a {}"):
            expected = model(pixel_values=CLIP_PIXELS).logits
            assert model.active_config.class_names == ["dog", "tree"]
        got = model.classify(CLIP_PIXELS, names=["dog", "tree"], tokenizer=tokenizer, template="a {}").logits
        assert torch.equal(got, expected)
        assert model.active_config.class_names == NAMES
        with pytest.raises(ValueError, match="give names with them"):
            model.classify(CLIP_PIXELS, tokenizer=tokenizer)


class TestAnAdapterForEachRow:
    ROWS = ("other", "default", "__base__", "other", "default")

    @both
    def test_each_row_is_answered_by_its_own(self, make, pixels):
        """Otherwise PEFT's argument is swallowed, and rows get another adapter's answer."""
        model = make() if make is prompted_clip else make("ViTForImageClassification")
        rows = [name for name in self.ROWS if make is prompted_clip or name != "__base__"]
        pixels = pixels[: len(rows)]
        alone = [model.classify(row[None], adapter=name).logits for row, name in zip(pixels, rows, strict=True)]
        answer = model(pixel_values=pixels, adapter_names=rows)
        torch.testing.assert_close(answer.logits, torch.cat(alone))
        labels = torch.tensor([0, 2, -100, 1, 1])[: len(rows)]
        expected = nn.functional.cross_entropy(answer.logits, labels)
        torch.testing.assert_close(model(pixel_values=pixels, labels=labels, adapter_names=rows).loss, expected)
        assert torch.equal(model(pixel_values=pixels).logits, switched(model, "default", pixels))

    def test_hidden_states_come_with_it(self):
        model = prompted_vit()
        outputs = model(pixel_values=VIT_PIXELS[:2], adapter_names=["other", "default"], output_hidden_states=True)
        alone = model.classify(VIT_PIXELS[:1], adapter="other", output_hidden_states=True)
        torch.testing.assert_close(outputs.hidden_states[-1][:1], alone.hidden_states[-1])

    @pytest.mark.parametrize(
        ("adapter_names", "inputs", "message"),
        [
            (["other", "no such"], {}, "There is no prompt adapter 'no such'; there are 'default', 'other'"),
            (["other"], {}, "there are 1 names and 2 rows"),
            ("other", {}, "must be a list with a name for each row, got 'other'"),
            (["other", "default"], {"input_ids": True}, "give pixel_values, and no input_ids"),
        ],
    )
    def test_what_has_no_meaning_is_refused(self, adapter_names, inputs, message):
        model = prompted_clip()
        if inputs:
            inputs = text_inputs("CLIPModel", ["cat", "moon"])
        with pytest.raises(ValueError, match=message):
            model(pixel_values=CLIP_PIXELS[:2], adapter_names=adapter_names, **inputs)

    def test_so_are_other_classes_training_and_models_that_do_not_classify(self):
        model = prompted_vit(other={"class_names": ["a", "b"]})
        with pytest.raises(ValueError, match=r"different widths \('other': 2, 'default': 3\)"):
            model(pixel_values=VIT_PIXELS[:2], adapter_names=["other", "default"])
        with pytest.raises(ValueError, match="adapter_names is for inference"):
            model.train()(pixel_values=VIT_PIXELS[:2], adapter_names=["default", "default"])
        tower = get_peft_model(make_model("CLIPTextModel"), make_config("end")).eval()
        with pytest.raises(ValueError, match="CLIPTextModel with prompts does not"):
            tower(**text_inputs("CLIPTextModel", ["cat"]), adapter_names=["default"])


class TestFrozenMeansFrozen:
    @pytest.mark.parametrize("trainable", [False, True])
    @pytest.mark.parametrize(("design", "name"), [("end", "CLIPModel"), ("independent", "CLIPModel"), ("vit", "")])
    def test_disabling_and_enabling_change_no_requires_grad(self, design, name, trainable, tmp_path):
        """Otherwise a loaded adapter trains, or one in training stops, after a comparison with the base model."""
        if design == "vit":
            name, config = "ViTForImageClassification", {"head": None, "modules_to_save": ["classifier"]}
            make = vision_models.make_model
            get_peft_model(make(name), ViTPromptConfig(**config)).save_pretrained(tmp_path)
        else:
            make = make_model
            get_peft_model(make(name), make_config(design)).save_pretrained(tmp_path)
        model = PeftModel.from_pretrained(make(name), tmp_path, is_trainable=trainable)
        before = requires_grad(model)
        assert any(before.values()) == trainable
        with model.disable_adapter():
            assert requires_grad(model) == before
        assert requires_grad(model) == before
        model.base_model.disable_adapter_layers()
        model.base_model.enable_adapter_layers()
        assert requires_grad(model) == before

    def test_one_that_takes_a_deleted_ones_place_stays_so(self, tmp_path):
        prompted_clip().save_pretrained(tmp_path)
        model = PeftModel.from_pretrained(make_model("CLIPModel"), tmp_path)
        model.load_adapter(tmp_path / "other", "other")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.delete_adapter("default")
        assert model.active_adapters == ["other"]
        assert not any(requires_grad(model).values())

    def test_set_adapter_in_inference_mode_freezes(self):
        model = prompted_clip()
        model.set_adapter("other", inference_mode=True)
        assert not any(requires_grad(model).values())


class TestClassesInTheModelsConfig:
    def test_stock_pipelines_answer_with_the_adapters_names(self):
        """Otherwise the head's classes get the old model's names, or a KeyError."""
        model = get_peft_model(
            vision_models.make_model("ViTForImageClassification"),
            ViTPromptConfig.vpt_deep(num_tokens=2, class_names=FLOWERS),
        )
        processor = AutoImageProcessor.from_pretrained(VIT_PATH, size={"height": 24, "width": 24})
        answer = pipeline("image-classification", model=model.get_base_model(), image_processor=processor)
        assert {each["label"] for each in answer(Image.new("RGB", (24, 24)))} == set(FLOWERS)

    def test_they_follow_the_active_adapter(self):
        model = prompted_vit(other={"class_names": None, "num_labels": 4})
        config, own = model.config, vision_models.make_model("ViTForImageClassification").config
        assert config.id2label == {0: "rose", 1: "tulip", 2: "daisy"}
        assert config.label2id == {"rose": 0, "tulip": 1, "daisy": 2}
        with model.disable_adapter():
            assert (config.id2label, config.label2id) == (own.id2label, own.label2id)
        assert config.num_labels == 3
        model.set_adapter("other")
        assert config.id2label[3] == "LABEL_3"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.delete_adapter("other")
        assert config.id2label[2] == "daisy"
        assert model.unload().config.id2label == own.id2label

    def test_those_of_a_head_of_the_models_own_stay(self):
        base = vision_models.make_model("ViTForImageClassification")
        own = base.config.id2label
        get_peft_model(base, ViTPromptConfig(head=None))
        assert base.config.id2label == own

    def test_a_clip_names_the_classes_that_it_compares_images_with(self):
        base = make_model("CLIPModel")
        own = base.config.id2label
        model = get_peft_model(base, CLIPPromptConfig(num_text_tokens=2))
        assert base.config.id2label == own
        model.set_classes(NAMES, clip_tokenizer())
        assert list(base.config.id2label.values()) == NAMES
        with model.using_classes(["dog", "tree"], clip_tokenizer()):
            assert list(base.config.id2label.values()) == NAMES
        assert model.unload().config.id2label == own


@pytest.mark.filterwarnings("ignore:You are trying to modify a model", "ignore:Already found a")
class TestAdaptersOfOtherMethodsBesideAPrompt:
    def lora(self) -> LoraConfig:
        return LoraConfig(r=2, target_modules=["q_proj"])

    def test_each_is_saved_and_loaded(self, tmp_path: Path):
        """Otherwise what was trained together comes back by halves."""
        model = get_peft_model(make_model("CLIPModel"), make_config("end"))
        model.set_classes(NAMES, clip_tokenizer())
        get_peft_model(model.get_base_model(), self.lora(), adapter_name="lora")
        contract.randomise(model)
        model.eval()
        model.save_pretrained(tmp_path)
        base = PeftModel.from_pretrained(make_model("CLIPModel"), tmp_path / "lora", adapter_name="lora")
        loaded = PeftModel.from_pretrained(base.get_base_model(), tmp_path).eval()
        assert torch.equal(loaded(pixel_values=CLIP_PIXELS).logits, model(pixel_values=CLIP_PIXELS).logits)
        bare = PeftModel.from_pretrained(make_model("CLIPModel"), tmp_path).eval()
        assert not torch.equal(bare(pixel_values=CLIP_PIXELS).logits, model(pixel_values=CLIP_PIXELS).logits)

    def test_one_name_for_two_methods_is_refused(self):
        """PEFT would overwrite the first config and save the tensors of both under the second."""
        model = get_peft_model(make_model("CLIPModel"), make_config("end"))
        for target in (model, model.get_base_model()):
            with pytest.raises(ValueError, match="'default' of type CLIP_PROMPT already"):
                get_peft_model(target, self.lora())
        other = get_peft_model(make_model("CLIPModel"), self.lora())
        with pytest.raises(ValueError, match="'default' of type LORA already"):
            get_peft_model(other.get_base_model(), make_config("end"))

    def test_it_is_not_taken_for_a_prompt(self):
        model = get_peft_model(make_model("CLIPModel"), make_config("end"))
        get_peft_model(model.get_base_model(), self.lora(), adapter_name="lora")
        with pytest.raises(ValueError, match="Adapter 'lora' is of type LORA and stays beside the prompts"):
            model.base_model.set_adapter("lora")
        with pytest.raises(ValueError, match="no prompt adapter 'lora'"):
            model.classify(CLIP_PIXELS, adapter="lora")
        model.unload()
        get_peft_model(make_model("CLIPModel"), self.lora())
