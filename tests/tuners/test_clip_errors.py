"""What has no meaning is refused with the field, the reason and the remedy, and the model is left as it was.

Otherwise users meet a RuntimeError deep in a tower, or no error and prompts that learn nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from tuners import contract
from tuners.clip_designs import NAMES, TEMPLATE, make_config
from tuners.clip_models import (
    TEXT_WIDTH,
    clip_tokenizer,
    image_inputs,
    inputs_of,
    make_model,
    text_inputs,
    two_towers,
)

from hf_sharp_prompt import CLIPPromptConfig


@contextmanager
def refusing(message: str, model: nn.Module) -> Iterator[None]:
    """Within the block a ValueError with the message is raised, and it leaves the model as it was."""
    before = _state(model)
    with pytest.raises(ValueError, match=message):
        yield
    assert _state(model) == before


def _state(model: nn.Module) -> list[Any]:
    return [
        list(model.state_dict()),
        [*model.named_modules()],
        contract.hooks_of(model),
        list(contract.trained(model)),
        {name: value for name, value in vars(model).items() if name != "peft_config" and not name.startswith("_")},
    ]


CONTEXT = {"num_text_tokens": 2, "num_vision_tokens": 2}
BOTH = "nothing is learned; set one of them"
NO_CONTEXT = "is about context tokens, but num_text_tokens is 0; set it or drop"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_text_tokens": 0}, f"num_text_tokens and num_vision_tokens are both 0, so {BOTH}"),
        ({"num_text_tokens": -1}, "num_text_tokens must be a non-negative integer, got -1"),
        ({"num_vision_tokens": -1}, "num_vision_tokens must be a non-negative integer, got -1"),
        ({"num_vision_tokens": 2.0}, "num_vision_tokens must be a non-negative integer, got 2.0"),
        ({"text_depth": 0}, "text_depth must be a positive integer, got 0"),
        ({"vision_depth": 0}, "vision_depth must be a positive integer, got 0"),
        ({"text_depth": True}, "text_depth must be a positive integer, got True"),
        ({"class_token_position": "left"}, "class_token_position must be one of end, middle, front, got 'left'"),
        ({"vision_depth": 2}, "vision_depth is about vision tokens, but num_vision_tokens is 0; set it as well"),
        ({"text_init_rest": "ones"}, "text_init_rest must be one of normal, zeros, got 'ones'"),
        (
            {"text_init_rest": "zeros"},
            "text_init_rest='zeros' starts the context tokens at zero that text_init does not",
        ),
        ({**CONTEXT, "num_text_tokens": 0, "text_init": "a"}, f"text_init {NO_CONTEXT} text_init"),
        ({**CONTEXT, "num_text_tokens": 0, "text_depth": 2}, f"text_depth {NO_CONTEXT} text_depth"),
        (
            {**CONTEXT, "num_text_tokens": 0, "class_token_position": "front"},
            f"class_token_position {NO_CONTEXT} class_token_position",
        ),
        (
            {**CONTEXT, "num_text_tokens": 0, "class_specific": True, "class_names": NAMES},
            f"class_specific {NO_CONTEXT} class_specific",
        ),
        ({**CONTEXT, "num_text_tokens": 0, "conditional": True}, f"conditional {NO_CONTEXT} conditional"),
        ({**CONTEXT, "num_text_tokens": 0, "coupled": True}, f"coupled {NO_CONTEXT} coupled"),
        ({"coupled": True}, "num_vision_tokens must be num_text_tokens, 4, .* they are 0 and 1"),
        ({**CONTEXT, "num_vision_tokens": 3, "coupled": True}, "must be num_text_tokens, 2, .* they are 3 and 1"),
        ({**CONTEXT, "text_depth": 2, "coupled": True}, "vision_depth be text_depth, 2; they are 2 and 1"),
        (
            {**CONTEXT, "coupled": True, "class_specific": True, "class_names": NAMES},
            "coupled with class_specific has no meaning: .* Drop one of them",
        ),
        ({**CONTEXT, "coupled": True, "conditional": True}, "coupled with conditional has no meaning: .* Drop one"),
        (
            {"conditional": True, "class_specific": True, "class_names": NAMES},
            "conditional with class_specific has no meaning: .* Drop one of them",
        ),
        (
            {"text_depth": 2, "class_token_position": "middle"},
            "text_depth=2 needs class_token_position='end', not 'middle': deeper layers",
        ),
        ({"class_specific": True}, "class_specific makes a context for each class, so class_names must be given"),
    ],
)
def test_a_combination_without_meaning(fields, message):
    with pytest.raises(ValueError, match=message):
        CLIPPromptConfig(**fields)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("CLIPModel", {"text_depth": 4}, "text_depth is 4, but the text tower has 3 layers; set text_depth=3 or less"),
        (
            "CLIPModel",
            {"num_vision_tokens": 2, "vision_depth": 4},
            "vision_depth is 4, but the vision tower has 3 layers; set vision_depth=3 or less",
        ),
        ("CLIPModel", {"num_text_tokens": 18}, "18, but the text tower has 20 positions, .* num_text_tokens=17"),
        ("OwlViTModel", {"num_text_tokens": 14}, "14, but the text tower has 16 positions, .* num_text_tokens=13"),
        ("SiglipModel", {"num_text_tokens": 19}, "19, but the text tower has 20 positions, .* num_text_tokens=18"),
        (
            "CLIPVisionModel",
            {},
            "CLIPVisionModel has no text tower .* Set num_text_tokens=0 to prompt its",
        ),
        ("CLIPForImageClassification", {}, "CLIPForImageClassification has no text tower .* Set num_text_tokens=0"),
        (
            "CLIPTextModel",
            {"num_vision_tokens": 2},
            "CLIPTextModel sees no images, so that vision tokens have no place in it; set num_vision_tokens=0",
        ),
        (
            "CLIPTextModelWithProjection",
            {"num_vision_tokens": 4, "coupled": True},
            "CLIPTextModelWithProjection sees no images, so that vision tokens have no place in it",
        ),
        (
            "CLIPTextModel",
            {"conditional": True},
            "conditional is for classifying images by texts, but CLIPTextModel does not compare them; use a CLIPModel",
        ),
        (
            "OwlViTForObjectDetection",
            {"conditional": True},
            "conditional shifts the context by the feature of a whole image, and OwlViTForObjectDetection has none",
        ),
        (
            "CLIPTextModel",
            {"class_specific": True, "class_names": NAMES},
            "class_specific is for classifying images by texts, but CLIPTextModel does not compare them",
        ),
        (
            "CLIPModel",
            {"class_specific": True, "class_names": NAMES},
            "class_names needs a tokenizer, but the base model was not loaded by name; set tokenizer_name_or_path",
        ),
        (
            "CLIPModel",
            {
                "class_specific": True,
                "class_names": NAMES,
                "class_token_ids": [[1312, 5, 1313]] * 2 + [[1312, 5000, 1313]],
            },
            "has token 5000, but the model's vocabulary has 1314; use the tokenizer of the base model",
        ),
    ],
)
def test_a_design_that_does_not_fit_the_model(name, fields, message):
    model = make_model(name)
    with refusing(message, model):
        get_peft_model(model, CLIPPromptConfig(**fields))
    model = get_peft_model(model, make_config("vision, shallow" if "Text" not in name else "end", name))
    with refusing(message, model):  # and as a second adapter
        model.add_adapter("second", CLIPPromptConfig(**fields))
    assert list(model.peft_config) == ["default"]


@pytest.fixture
def model() -> PeftModel:
    """With six context tokens of 20 positions."""
    return get_peft_model(make_model("CLIPModel"), CLIPPromptConfig(num_text_tokens=6))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_prompt_and_a_name_beyond_the_positions(position):
    config = CLIPPromptConfig(num_text_tokens=6, class_token_position=position)
    model = get_peft_model(make_model("CLIPModel"), config)
    names = ["a " * 12, "cat"]
    model.set_classes(names, clip_tokenizer())
    assert model(**image_inputs("CLIPModel")).logits.isfinite().all()
    with refusing(r"'(a )+' and the 6 context tokens take 21 positions, .* has 20; shorten the name or", model):
        model.set_classes(["a " * 13, "cat"], clip_tokenizer())
    with refusing("A text of 15 tokens and 6 context tokens exceed the 20 positions .* shorten the text to 14", model):
        model.get_text_features(**text_inputs("CLIPModel", ["a " * 13]))
    assert model.peft_config["default"].class_names == names


class TestClassSpecific:
    @pytest.fixture
    def model(self) -> PeftModel:
        return get_peft_model(make_model("CLIPModel"), make_config("class-specific"))

    def test_other_names(self, model):
        for names in (["dog", "tree"], NAMES[::-1], NAMES[:2]):
            with refusing("a context for each of its 3 classes and none for others; use an adapter with", model):
                model.set_classes(names, clip_tokenizer())
            with (
                refusing("a context for each of its 3 classes", model),
                model.using_classes(names, clip_tokenizer()),
            ):
                pass
        assert model(**image_inputs("CLIPModel")).logits.shape == (2, 3)

    def test_texts_of_ones_own(self, model):
        for texts in (["dog"], NAMES):
            with refusing("contexts are those of its 3 classes; other texts cannot .* class_specific=False", model):
                model.get_text_features(**text_inputs("CLIPModel", texts))
        with refusing("contexts are those of its 3 classes", model):
            model(**inputs_of("CLIPModel"))
        with model.disable_adapter():
            assert model(**inputs_of("CLIPModel")).logits_per_image.isfinite().all()

    def test_another_template_is_no_other_class(self, model):
        model.set_classes(NAMES, clip_tokenizer(), "{}, drawn")
        assert model(**image_inputs("CLIPModel")).logits.shape == (2, 3)


@pytest.mark.parametrize("design", ["vision, shallow", ".maple()", "conditional, deep, vision"])
def test_features_of_images_that_the_vision_tokens_never_saw(design):
    model = get_peft_model(make_model("CLIPModel"), make_config(design))
    model.set_classes(NAMES, clip_tokenizer(), TEMPLATE)
    features = torch.randn(2, 48)
    with refusing("image_features come from the image tower without .* vision tokens; give pixel_values", model):
        model(image_features=features)
    with model.disable_adapter():
        assert model(image_features=features).logits.shape == (2, 3)


@pytest.mark.parametrize("name", ["CLIPTextModelWithProjection", "CLIPVisionModel"])
def test_classes_where_nothing_is_compared(name):
    model = get_peft_model(make_model(name), make_config("end" if "Text" in name else "vision, shallow", name))
    with refusing(f"{name} does not compare images with texts; use a CLIPModel", model):
        model.set_classes(NAMES, clip_tokenizer())


def test_interpreting_vision_tokens():
    for name in ("CLIPModel", "CLIPVisionModel"):
        model = get_peft_model(make_model(name), make_config("vision, shallow", name))
        with refusing("no context tokens to interpret, only vision tokens", model):
            model.interpret_prompts(clip_tokenizer())


class TestLoadingOntoAnotherModel:
    """Otherwise users meet a dump of tensor sizes, or an adapter of which nothing was loaded."""

    @staticmethod
    def saved(design: str, path: Path, name: str = "CLIPModel") -> Path:
        get_peft_model(make_model(name), make_config(design, name)).save_pretrained(path)
        return path

    @staticmethod
    def clip(text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **config: Any) -> nn.Module:
        towers = make_model("CLIPModel").config
        return type(make_model("CLIPModel"))(
            type(towers)(
                text_config=towers.text_config.to_dict() | (text or {}),
                vision_config=towers.vision_config.to_dict() | (vision or {}),
                **({"projection_dim": 48} | config),
            )
        )

    @pytest.mark.parametrize(
        ("design", "other", "here", "there"),
        [
            (
                "end",
                lambda: TestLoadingOntoAnotherModel.clip({"hidden_size": 32}),
                r"text_model \(clip_text_model of width 16 with 3 layers\)",
                r"this CLIPModel has text_model \(clip_text_model of width 32 with 3 layers\)",
            ),
            (
                "end",
                lambda: TestLoadingOntoAnotherModel.clip({"num_hidden_layers": 2}),
                r"text_model \(clip_text_model of width 16 with 3 layers\)",
                r"this CLIPModel has text_model \(clip_text_model of width 16 with 2 layers\)",
            ),
            (
                "vision, deep",
                lambda: TestLoadingOntoAnotherModel.clip(vision={"num_hidden_layers": 2}),
                r"vision_model \(clip_vision_model of width 32 with 3 layers\)",
                r"this CLIPModel has vision_model \(clip_vision_model of width 32 with 2 layers\)",
            ),
            (
                ".maple()",
                lambda: TestLoadingOntoAnotherModel.clip(vision={"hidden_size": 16}),
                r"text_model \(.*\) and vision_model \(clip_vision_model of width 32 with 3 layers\)",
                r"this CLIPModel has text_model \(.*\) and vision_model \(clip_vision_model of width 16 with .*\)",
            ),
            (
                "conditional",
                lambda: TestLoadingOntoAnotherModel.clip(projection_dim=24),
                r"image features \(of width 48\) and text_model \(.*\)",
                r"this CLIPModel has image features \(of width 24\) and text_model \(.*\)",
            ),
            (
                "end",
                lambda: make_model("MetaClip2Model"),
                r"text_model \(clip_text_model of width 16 with 3 layers\)",
                r"this MetaClip2Model has text_model \(metaclip_2_text_model of width 16 with 3 layers\)",
            ),
            (
                "end",
                lambda: make_model("CLIPTextModel"),
                r"text_model \(clip_text_model of width 16 with 3 layers\)",
                r"this CLIPTextModel has model \(clip_text_model of width 16 with 3 layers\)",
            ),
        ],
        ids=["text width", "text depth", "vision depth", "vision width", "feature width", "architecture", "tower"],
    )
    def test_the_error_names_both(self, design, other, here, there, tmp_path):
        path = self.saved(design, tmp_path)
        message = f"The adapter was made for .* with {here}, but {there}. Load it onto the model it was made for"
        base = other()
        with refusing(message, base):
            PeftModel.from_pretrained(base, path)
        model = get_peft_model(base, CLIPPromptConfig(num_text_tokens=1))
        with refusing(message, model):
            model.load_adapter(path, "loaded")
        assert list(model.peft_config) == ["default"]
        assert model.active_adapters == ["default"]

    def test_a_text_tower_takes_the_prompts_of_its_clip(self, tmp_path):
        """As text-to-image users have them, who hold the text half of a CLIP."""
        path = self.saved("deep text", tmp_path)
        loaded = PeftModel.from_pretrained(make_model("CLIPTextModelWithProjection"), path)
        clip = PeftModel.from_pretrained(make_model("CLIPModel"), path)
        for key, value in loaded.state_dict().items():
            if "clip_prompt_" in key:
                assert torch.equal(value, clip.state_dict()[key])

    @pytest.mark.parametrize(
        ("design", "change", "message"),
        [
            ("end", {"num_text_tokens": 6}, f"context' is 3 × {TEXT_WIDTH} in its file, .* it is 6 × {TEXT_WIDTH}"),
            ("deep text", {"text_depth": 1}, f"deep_context' is 2 × 2 × {TEXT_WIDTH} in its file, .* it is not there"),
            ("end", {"text_depth": 2}, f"deep_context' is missing in its file, .* it is 1 × 3 × {TEXT_WIDTH}"),
        ],
    )
    def test_a_config_that_is_not_the_files(self, design, change, message, tmp_path):
        config = self.saved(design, tmp_path) / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | change))
        base = make_model("CLIPModel").requires_grad_(False)
        message = f"does not fit its own config: .*{message}. Load the adapter as it was saved"
        with refusing(message, base):
            PeftModel.from_pretrained(base, tmp_path)
        model = get_peft_model(base, make_config("end"))
        with refusing(message, model):
            model.load_adapter(tmp_path, "loaded")
        assert list(model.peft_config) == ["default"]

    def test_a_file_with_parts_missing(self, tmp_path):
        file = self.saved(".maple()", tmp_path) / "adapter_model.safetensors"
        tensors = load_file(file)
        del tensors[next(key for key in tensors if key.endswith("coupling.1.weight"))]
        save_file(tensors, file)
        base = make_model("CLIPModel").requires_grad_(False)
        with refusing(r"coupling.1.weight' is missing in its file, .* it is 32 × 16", base):
            PeftModel.from_pretrained(base, tmp_path)


def test_the_parts_of_a_clip_whose_text_tower_is_unknown():
    class Unknown(nn.Module):
        pass

    model = two_towers("CLIPModel", projection_dim=8)
    model.text_model = Unknown()
    with refusing("CLIPModel has no text tower of a type that is known: clip_text_model, .*register_text", model):
        get_peft_model(model, CLIPPromptConfig())
    get_peft_model(model, CLIPPromptConfig(num_text_tokens=0, num_vision_tokens=2))
