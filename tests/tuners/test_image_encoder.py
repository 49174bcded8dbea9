"""What an image tower computes, and that it is recognised as this very tower."""

import pytest
import torch
from peft import get_peft_model
from transformers import CLIPModel, SiglipConfig, SiglipModel

from hf_sharp_prompt import CLIPPromptConfig, ImageEncoder


def test_features_are_those_the_model_classifies_with(clip, pixel_values):
    """Otherwise training on features is not training on the images."""
    expected = clip.get_image_features(pixel_values).pooler_output
    clip.train()
    features = ImageEncoder(clip)(pixel_values)
    assert torch.equal(features, expected)
    assert not features.requires_grad
    assert not clip.training


def test_a_text_prompt_leaves_the_image_tower_as_it_was(clip, checkpoint, pixel_values):
    """Otherwise each adapter encodes the images again."""
    base = ImageEncoder(CLIPModel.from_pretrained(checkpoint))
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=2, text_depth=2))
    prompted = ImageEncoder(model)
    assert prompted.fingerprint == base.fingerprint
    assert torch.equal(prompted(pixel_values), base(pixel_values))


@pytest.mark.parametrize("config", [{"num_vision_tokens": 2}, {"num_vision_tokens": 2, "coupled": True}])
def test_an_image_tower_that_learns_is_refused(config, clip):
    """Otherwise one trains, unknowingly, with vision tokens that see nothing."""
    model = get_peft_model(clip, CLIPPromptConfig(**{"num_text_tokens": 2} | config))
    with pytest.raises(ValueError, match=r"learns tokens in the image tower \(num_vision_tokens=2\), .* pixel_values"):
        ImageEncoder(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_towers_in_half_precision_take_the_processors_pixels_and_are_told_apart(dtype, clip, pixel_values):
    """Pixels come in single precision; features of the rounded weights are other features."""
    single = ImageEncoder(clip)
    fingerprint = single.fingerprint
    rounded = ImageEncoder(clip.to(dtype))
    assert rounded(pixel_values).dtype == dtype
    assert rounded.fingerprint != fingerprint


def test_siglip_has_an_image_tower_too(pixel_values):
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config={**layers, "vocab_size": 50}, vision_config={**layers, "image_size": 48, "patch_size": 16}
    )
    model = SiglipModel(config)
    encoder = ImageEncoder(model)
    assert encoder(pixel_values).shape == (4, 32)
    before = encoder.fingerprint
    model.text_model.final_layer_norm.weight.data += 1
    assert ImageEncoder(model).fingerprint == before
    model.vision_model.head.probe.data += 1
    assert ImageEncoder(model).fingerprint != before
