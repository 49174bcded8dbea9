"""A config records its published design; a design is one file with its fields, checks, card words and conversion."""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import CLIPModel, CLIPTokenizer

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments, ViTPromptConfig
from hf_sharp_prompt.convert import adapter_from_checkpoint, checkpoint_from_adapter
from hf_sharp_prompt.tuners.clip_prompt.designs import Checkpoint, CLIPDesign, Place, Shapes
from hf_sharp_prompt.tuners.prompt_design import Reference


COOP = {"num_text_tokens": 4, "text_init": "a photo of a"}
IVLP = {"num_text_tokens": 2, "text_init": "a photo", "text_depth": 12, "num_vision_tokens": 2, "vision_depth": 12}
PUBLISHED_FOR_CLIP: dict[str, dict[str, Any]] = {
    "coop": COOP,
    "cocoop": {**COOP, "conditional": True},
    "vpt": {"num_text_tokens": 0, "num_vision_tokens": 8, "vision_depth": 12},
    "vpt_shallow": {"num_text_tokens": 0, "num_vision_tokens": 8},
    "ivlp": IVLP,
    "maple": {**IVLP, "text_depth": 9, "vision_depth": 9, "coupled": True},
}
PUBLISHED_FOR_VIT: dict[str, dict[str, Any]] = {
    "vpt_shallow": {"num_tokens": 50, "depth": 1},
    "vpt_deep": {"num_tokens": 50, "depth": None},
    "rsam_pt": {
        "num_tokens": 10,
        "depth": None,
        "init": "trunc_normal",
        "pooling": "cls_prompt",
        "head": "cosine",
        "head_dropout": 0.1,
        "scale": 25.0,
    },
}
EVERY_DESIGN = [
    *((CLIPPromptConfig, name, fields, {}) for name, fields in PUBLISHED_FOR_CLIP.items()),
    *((ViTPromptConfig, name, fields, {"num_labels": 3}) for name, fields in PUBLISHED_FOR_VIT.items()),
]
every_design = pytest.mark.parametrize(("kind", "name", "fields", "needed"), EVERY_DESIGN)
every_kind = pytest.mark.parametrize("kind", [CLIPPromptConfig, ViTPromptConfig])


def write(path: Path, fields: dict[str, Any]) -> Path:
    (path / "adapter_config.json").write_text(json.dumps(fields))
    return path


def test_every_published_design_is_in_these_tests():
    assert {*PUBLISHED_FOR_CLIP, "custom"} == set(CLIPPromptConfig.designs)
    assert {*PUBLISHED_FOR_VIT, "custom"} == set(ViTPromptConfig.designs)


@every_kind
def test_every_design_has_a_file_of_its_name(kind):
    room = kind.__module__.rpartition(".")[0]
    for name, design in kind.designs.items():
        assert design.__module__ == f"{room}.designs.{name}"


@every_kind
def test_what_a_design_says_of_fields_is_said_of_fields_that_there_are(kind):
    """Otherwise a misspelt name would silently change nothing."""
    known = {field.name for field in dataclasses.fields(kind)}
    for design in kind.designs.values():
        assert {*design.fields, *design.fixed} <= known


class TestAConfig:
    @every_design
    def test_of_a_design_has_the_published_fields(self, kind, name, fields, needed):
        config = kind(design=name, **needed)
        assert {**config.to_dict(), "design": "custom"} == kind(**fields, **needed).to_dict()

    @every_design
    def test_constructors_name_the_same(self, kind, name, fields, needed):
        if hasattr(kind, name):
            assert getattr(kind, name)(**needed) == kind(design=name, **needed)

    def test_fields_that_are_passed_override_the_designs(self):
        config = CLIPPromptConfig(design="maple", text_depth=3, vision_depth=3, text_init=None)
        assert (config.num_text_tokens, config.text_depth, config.text_init) == (2, 3, None)
        # The default value of a field is a value like any other when it is passed.
        assert CLIPPromptConfig(design="coop", text_init=None).text_init is None

    def test_without_a_design_claims_none(self):
        assert CLIPPromptConfig(**PUBLISHED_FOR_CLIP["maple"]).design == "custom"
        assert ViTPromptConfig(**PUBLISHED_FOR_VIT["rsam_pt"], num_labels=2).design == "custom"

    @pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, dataclasses.replace])
    def test_keeps_its_fields_when_it_is_copied(self, remake):
        config = CLIPPromptConfig(design="maple", text_depth=3, vision_depth=3, text_init=None)
        assert remake(config) == config

    @pytest.mark.parametrize(
        ("kind", "fields", "message"),
        [
            (CLIPPromptConfig, {"design": "maple", "coupled": False}, "design 'maple' has coupled=True, but .* False"),
            (CLIPPromptConfig, {"design": "cocoop", "conditional": False}, "has conditional=True, but conditional is"),
            (CLIPPromptConfig, {"design": "coop", "num_vision_tokens": 2}, "has num_vision_tokens=0, .* is 2"),
            (CLIPPromptConfig, {"design": "vpt", "num_text_tokens": 2}, "has num_text_tokens=0, .* leave design out"),
            (CLIPPromptConfig, {"design": "vpt_shallow", "vision_depth": 2}, "has vision_depth=1, .* is 2"),
            (CLIPPromptConfig, {"design": "ivlp", "num_vision_tokens": 0}, "tokens in both towers, .* are 2 and 0"),
            (ViTPromptConfig, {"design": "vpt_deep", "depth": 1}, "tokens in several layers, but depth is 1"),
            (ViTPromptConfig, {"design": "rsam_pt", "head": "linear"}, "has head='cosine', but head is 'linear'"),
            (CLIPPromptConfig, {"design": "mapel"}, "no design of prompts for CLIP 'mapel'; did you mean 'maple'"),
            (ViTPromptConfig, {"design": "vpt"}, "no design of prompts for vision transformers 'vpt'; did you mean"),
            (CLIPPromptConfig, {"design": "x" * 1000}, r"design must be a name of at most 64 characters, got 'x+…"),
            (CLIPPromptConfig, {"design": ["maple"]}, r"design must be a name .*, got \['maple'\]"),
        ],
    )
    def test_that_contradicts_its_design_is_refused(self, kind, fields, message):
        with pytest.raises(ValueError, match=message) as raised:
            kind(**fields)
        assert len(str(raised.value)) < 300


class TestAFile:
    """What stands in `adapter_config.json`, whoever saved it."""

    @every_design
    def test_records_the_design(self, kind, name, fields, needed, tmp_path):
        kind(design=name, **needed).save_pretrained(tmp_path)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["design"] == name
        assert kind.from_pretrained(tmp_path) == kind(design=name, **needed)

    @every_design
    def test_from_before_designs_were_recorded_is_recognised_by_its_fields(self, kind, name, fields, needed, tmp_path):
        before = kind(**fields, **needed).to_dict()
        del before["design"]
        assert kind.from_pretrained(write(tmp_path, before)).design == name

    @pytest.mark.parametrize(
        "fields",
        [
            {"text_depth": 2},
            {"conditional": True, "num_vision_tokens": 2},
            {"num_vision_tokens": 2, "class_specific": True, "class_names": ["a", "b"]},
        ],
    )
    def test_of_a_combination_that_nobody_published_is_custom(self, fields, tmp_path):
        before = CLIPPromptConfig(**fields).to_dict()
        del before["design"]
        assert CLIPPromptConfig.from_pretrained(write(tmp_path, before)).design == "custom"

    def test_that_records_custom_is_custom_whatever_its_fields(self, tmp_path):
        CLIPPromptConfig(**PUBLISHED_FOR_CLIP["maple"]).save_pretrained(tmp_path)
        assert CLIPPromptConfig.from_pretrained(tmp_path).design == "custom"

    def test_with_the_old_name_of_a_field_is_read(self, tmp_path):
        sizes = {"text_model": "clip_text_model of width 32 with 2 layers"}
        old = write(tmp_path, {"peft_type": "CLIP_PROMPT", "made_for": sizes})
        assert CLIPPromptConfig.from_pretrained(old).base_model_sizes == sizes
        assert "made_for" not in CLIPPromptConfig.from_pretrained(old).to_dict()
        sizes = {"model": "ViTModel", "width": 16, "layers": 3}
        old = write(tmp_path, {"peft_type": "VIT_PROMPT", "num_labels": 2, "made_for": sizes})
        assert ViTPromptConfig.from_pretrained(old).base_model_sizes == sizes

    def test_that_contradicts_itself_is_refused(self, tmp_path):
        changed = {**CLIPPromptConfig.maple().to_dict(), "coupled": False}
        with pytest.raises(ValueError, match=r"adapter_config\.json: The design 'maple' has coupled=True"):
            CLIPPromptConfig.from_pretrained(write(tmp_path, changed))

    @pytest.mark.parametrize("name", ["maple2030", "\x1b[31mred\u202e"])
    def test_of_a_design_that_is_not_known_here_loads_with_a_warning(self, name, checkpoint, tmp_path):
        """The tensors depend on the other fields alone, so a newer version's adapter is of use."""
        model = get_peft_model(CLIPModel.from_pretrained(checkpoint), CLIPPromptConfig(num_text_tokens=2))
        model.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "adapter_config.json").read_text())
        write(tmp_path, saved | {"design": name})
        with pytest.warns(UserWarning, match="is not known here; .* Upgrade hf-sharp-prompt") as warned:
            loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), tmp_path)
        assert not any(character in str(each.message) for each in warned for character in "\x1b\u202e")
        assert loaded.active_peft_config.design == "custom"
        texts = {"input_ids": torch.tensor([[49, 5, 50]])}
        with torch.no_grad():
            expected = model.eval().get_text_features(**texts).pooler_output
            assert torch.equal(loaded.eval().get_text_features(**texts).pooler_output, expected)

    @pytest.mark.parametrize("design", [3, None, "x" * 65, ["maple"], {"a": 1}])
    def test_with_a_design_that_is_no_name_is_refused(self, design, tmp_path):
        with pytest.raises(ValueError, match=r"adapter_config\.json: design must be a name of at most 64 characters"):
            CLIPPromptConfig.from_pretrained(write(tmp_path, {"design": design}))


# ---------------------------------------------------------------------------------------------------------------------
# A new design is one class.


class OffsetCheckpoint(Checkpoint):
    requires = "offsets"
    is_whole_model = False

    def read_fields(self, shapes: Shapes) -> dict[str, Any]:
        return {"num_text_tokens": shapes["offsets"][0], "class_token_position": "front"}

    def places(self, config: CLIPPromptConfig) -> dict[str, Place]:
        return {"offsets": Place("clip_prompt_context")}


@pytest.fixture
def behind() -> Iterator[type[CLIPDesign]]:
    """A design that nobody has published, known for the length of a test."""

    class Behind(CLIPDesign, name="behind"):
        """Context tokens behind the class name."""

        title = "BeHind"
        reference = Reference("Nobody, “Prompts behind names”, 2030", "https://example.org/behind")
        fields = {"num_text_tokens": 3, "class_token_position": "front"}
        fixed = ["class_token_position"]
        words = "a photo of a"
        checkpoint = OffsetCheckpoint()

    yield Behind
    del CLIPPromptConfig.designs["behind"]


class TestANewDesign:
    def test_checks_its_fields(self, behind):
        assert CLIPPromptConfig(design="behind").num_text_tokens == 3
        with pytest.raises(ValueError, match="'behind' has class_token_position='front', but class_token_position is"):
            CLIPPromptConfig(design="behind", class_token_position="end")

    def test_trains_and_tells_its_words_on_the_card(self, behind, checkpoint, tokenizer: CLIPTokenizer, tmp_path):
        model = get_peft_model(CLIPModel.from_pretrained(checkpoint), CLIPPromptConfig(design="behind"))
        model.set_classes(["red star", "cat"], tokenizer)
        before = {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad}
        data = [{"pixel_values": torch.randn(3, 48, 48), "labels": torch.tensor(label)} for label in (0, 1)]
        args = SharpPromptTrainingArguments(str(tmp_path), report_to="none", max_steps=1, learning_rate=0.1)
        trainer = SharpPromptTrainer(model, args, train_dataset=data)
        trainer.train()
        assert any(not torch.equal(dict(model.named_parameters())[name], each) for name, each in before.items())
        card = trainer.make_card()
        assert "| method | BeHind, trained along" in card.text
        assert "[Nobody, “Prompts behind names”, 2030](https://example.org/behind)" in card.text
        assert "3 context tokens" in card.text
        assert "behind" in card.data.tags
        trainer.save_model()
        loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(checkpoint), tmp_path)
        assert loaded.active_peft_config.design == "behind"

    def test_is_converted_there_and_back(self, behind, checkpoint, tmp_path):
        offsets = torch.randn(5, 32)
        torch.save({"state_dict": {"offsets": offsets}}, tmp_path / "model.pth.tar-1")
        config = adapter_from_checkpoint(tmp_path / "model.pth.tar-1", tmp_path / "adapter", checkpoint)
        assert (config.design, config.num_text_tokens, config.class_template) == ("behind", 5, "{}.")
        checkpoint_from_adapter(tmp_path / "adapter", tmp_path / "back")
        back = torch.load(tmp_path / "back", weights_only=True)["state_dict"]
        assert back.keys() == {"offsets"}
        assert torch.equal(back["offsets"], offsets)


def test_known_designs_load_without_a_warning(tmp_path):
    CLIPPromptConfig.maple().save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CLIPPromptConfig.from_pretrained(tmp_path)
