"""The embeddings of classes, which classify with the base model's own image tower."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from torch.nn.functional import normalize
from transformers import CLIPModel, ViTConfig, ViTModel
from tuners.coop import NAMES, assert_close, prompted

from hf_sharp_prompt import ViTPromptConfig
from hf_sharp_prompt.export import ZeroShotHead


def with_classes(clip: Any, tokenizer: Any, **config: Any) -> PeftModel:
    model = prompted(clip, **config)
    model.set_classes(NAMES, tokenizer, "a {}.")
    return model.eval()


@pytest.mark.parametrize("changes", [{}, {"text_depth": 2}, {"class_token_position": "front"}])
def test_a_saved_head_classifies_as_the_adapter_does(changes, clip, checkpoint, tokenizer, pixel_values, tmp_path):
    """Otherwise those without PEFT get other predictions than those with it."""
    model = with_classes(clip, tokenizer, **changes)
    ZeroShotHead.of(model).save(tmp_path / "head.safetensors")
    head = ZeroShotHead.load(tmp_path / "head.safetensors")
    assert (head.class_names, head.template, head.base_model) == (NAMES, "a {}.", checkpoint)
    plain = CLIPModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        logits = head.logits(plain.get_image_features(pixel_values=pixel_values).pooler_output)
        assert_close(logits, model(pixel_values=pixel_values).logits, 1e-4)


def test_the_file_for_open_clip_is_laid_out_as_its_zero_shot_weights(clip, tokenizer, pixel_values, tmp_path):
    """`logits = 100. * image_features @ classifier` is what open_clip's own evaluation computes."""
    model = with_classes(clip, tokenizer)
    ZeroShotHead.of(model).save_for_open_clip(tmp_path / "open_clip.safetensors")
    with safe_open(tmp_path / "open_clip.safetensors", framework="pt") as file:
        classifier, scale = file.get_tensor("zeroshot_weights"), file.get_tensor("logit_scale")
        assert json.loads(file.metadata()["class_names"]) == NAMES
    assert classifier.shape == (clip.config.projection_dim, len(NAMES))
    assert_close(classifier.norm(dim=0), torch.ones(len(NAMES)), 1e-6)
    with torch.no_grad(), model.without_prompts():
        image_features = normalize(model.get_image_features(pixel_values=pixel_values).pooler_output, dim=-1)
    assert_close(scale * image_features @ classifier, model(pixel_values=pixel_values).logits, 1e-4)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"conditional": True}, "another embedding for each; use write_onnx_classifier"),
        ({"num_vision_tokens": 2}, "plain tower's images; use write_onnx_classifier"),
        ({"task": "image-segmentation"}, "only classifiers of images are exported"),
    ],
)
def test_a_design_without_embeddings_of_its_classes_is_refused(config, why, clip, tokenizer):
    with pytest.raises(ValueError, match=why):
        ZeroShotHead.of(with_classes(clip, tokenizer, **config))


def test_an_adapter_without_classes_or_texts_is_refused(clip):
    with pytest.raises(ValueError, match="set_classes"):
        ZeroShotHead.of(prompted(clip))
    vit = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(ValueError, match="no texts of classes"):
        ZeroShotHead.of(get_peft_model(vit, ViTPromptConfig(num_labels=2)))


def test_what_is_no_head_is_refused(tmp_path: Path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="incomplete or no zero-shot head"):
        ZeroShotHead.load(tmp_path / "cut.safetensors")
