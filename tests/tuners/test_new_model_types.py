"""A model whose class lives in a user's own code is prompted after one call for each of its towers."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, ViTConfig, ViTModel

from hf_sharp_prompt import CLIPPromptConfig, ViTPromptConfig
from hf_sharp_prompt.tuners import (
    Pooling,
    TextTower,
    VisionTower,
    register_text_tower,
    register_vision_tower,
    register_vit,
)
from hf_sharp_prompt.tuners.text_tower import TEXT_TOWERS, first_eos
from hf_sharp_prompt.tuners.vision_tower import ANYWHERE, IN_VISION_MODEL, VISION_TOWERS, clip_layout
from hf_sharp_prompt.tuners.vit_prompt import MODEL_POOLINGS
from hf_sharp_prompt.tuners.vit_prompt.pooling import cls


SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {**SIZES, "image_size": 16, "patch_size": 8}
PIXELS = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)


class MyTextConfig(CLIPTextConfig):
    model_type = "my_clip_text_model"


class MyVisionConfig(CLIPVisionConfig):
    model_type = "my_clip_vision_model"


class MyCLIPConfig(CLIPConfig):
    model_type = "my_clip"
    sub_configs = {"text_config": MyTextConfig, "vision_config": MyVisionConfig}


class MyCLIP(CLIPModel):
    config_class = MyCLIPConfig


class MyViTConfig(ViTConfig):
    model_type = "my_vit"


class MyViT(ViTModel):
    config_class = MyViTConfig


@pytest.fixture(autouse=True)
def _tables_as_they_were():
    tables = TEXT_TOWERS, VISION_TOWERS, MODEL_POOLINGS
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def a_clip(tokenizer) -> MyCLIP:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**SIZES, **ids, "vocab_size": len(tokenizer)}
    return MyCLIP(MyCLIPConfig(text_config=text, vision_config=IMAGE, projection_dim=8)).eval()


def test_a_clip_of_a_new_type_is_prompted_in_both_towers(tokenizer, tmp_path):
    register_text_tower("my_clip_text_model", TextTower(first_eos))
    register_vision_tower("my_clip", clip_layout(IN_VISION_MODEL, "pre_layrnorm"))
    base = a_clip(tokenizer)
    config = CLIPPromptConfig(num_text_tokens=2, text_depth=2, num_vision_tokens=2, vision_depth=2)
    model = get_peft_model(base, config)
    model.set_classes(["cat", "dog"], tokenizer)
    loss = model(pixel_values=PIXELS, labels=torch.tensor([0, 1])).loss
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trained) == 3
    assert all(parameter.grad.abs().max() > 0 for parameter in trained)
    model.save_pretrained(tmp_path)
    logits = model.eval()(pixel_values=PIXELS).logits
    assert torch.equal(PeftModel.from_pretrained(model.unload(), tmp_path)(pixel_values=PIXELS).logits, logits)


def test_a_vit_of_a_new_type_is_prompted():
    layout = VisionTower(ANYWHERE, layers="layers", final_norm="layernorm")
    register_vit("my_vit", layout, Pooling(cls))
    base = MyViT(MyViTConfig(**IMAGE))
    before = base(PIXELS).last_hidden_state
    model = get_peft_model(base, ViTPromptConfig(num_tokens=2, num_labels=3))
    model(pixel_values=PIXELS, labels=torch.tensor([0, 2])).loss.backward()
    assert model.base_model.prompt.vit_prompt_tokens["default"].grad.abs().max() > 0
    assert torch.equal(model.unload()(PIXELS).last_hidden_state, before)


def test_a_known_type_is_not_replaced():
    """Otherwise a user's import changes how everyone's CLIPs are prompted."""
    register_text_tower("clip_text_model", TEXT_TOWERS["clip_text_model"])  # the same again does no harm
    with pytest.raises(ValueError, match="type 'clip_text_model' is registered already; give yours another"):
        register_text_tower("clip_text_model", TextTower(first_eos))
    with pytest.raises(ValueError, match="type 'clip' is registered already; give yours another model_type"):
        register_vision_tower("clip", VISION_TOWERS["vit"])
    with pytest.raises(ValueError, match="type 'vit' are registered with another pooling"):
        register_vit("vit", VISION_TOWERS["vit"], Pooling(cls, widths=2))
