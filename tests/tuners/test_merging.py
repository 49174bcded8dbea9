"""A learned context as words of a plain CLIP."""

import copy
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import AutoTokenizer, CLIPForImageClassification, CLIPModel
from tuners.coop import NAMES, assert_close, prompted

from hf_sharp_prompt import CLIPPromptConfig


OTHER_NAMES = ["a small green moon", "cat", "Xylophon 7", "ring"]


def test_a_merged_clip_answers_without_this_package(either_clip, tokenizer, pixel_values, tmp_path: Path):
    """Otherwise those who load it with transformers alone get other predictions, for old and new configs of CLIP."""
    pixel_values = pixel_values.double()
    model, words = prompted(either_clip, num_text_tokens=3), copy.deepcopy(tokenizer)
    with torch.no_grad():
        expected = [
            model.classify(pixel_values, names=names, tokenizer=tokenizer, template="{} {{x}}.").logits
            for names in (NAMES, OTHER_NAMES)
        ]
        model.set_classes(NAMES, tokenizer, "{} {{x}}.")
        merged = model.merge_and_unload(tokenizer=words)
    assert type(merged) is CLIPModel
    merged.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    plain, read = CLIPModel.from_pretrained(tmp_path, dtype=torch.float64), AutoTokenizer.from_pretrained(tmp_path)
    template = plain.config.hypothesis_template
    for names, logits in zip((plain.config.id2label.values(), OTHER_NAMES), expected, strict=True):
        texts = read([template.format(name) for name in names], padding=True, return_tensors="pt")
        with torch.no_grad():
            assert_close(plain(pixel_values=pixel_values, **texts).logits_per_image, logits, 1e-9)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"num_text_tokens": 0, "num_vision_tokens": 2}, "no place in a plain model.*write_onnx_classifier"),
        ({"conditional": True}, "depends on the image is no word.*write_onnx_classifier"),
        ({"text_depth": 2}, "text_depth=2 .*ZeroShotHead"),
        ({"class_token_position": "front"}, "class_token_position='front' .*ZeroShotHead"),
        ({}, r"merge_and_unload\(tokenizer=tokenizer\)"),
    ],
)
def test_a_design_that_is_no_words_is_refused_with_what_to_do(config, why, clip):
    """Otherwise the prompt is silently dropped, and the model shared without it."""
    model = get_peft_model(clip, CLIPPromptConfig(**config))
    with pytest.raises(ValueError, match=why):
        model.merge_and_unload()
    assert model.active_adapter == "default"


def test_a_tokenizer_that_does_not_fit_is_refused_before_the_adapter_is_removed(model, tokenizer):
    words = copy.deepcopy(tokenizer)
    words.add_tokens(["<|context1|>"])
    with pytest.raises(ValueError, match="load it again from the base model"):
        model.merge_and_unload(tokenizer=words)
    words = copy.deepcopy(tokenizer)
    words.add_tokens([f"more{index}" for index in range(3)])
    with pytest.raises(ValueError, match="give the tokenizer of the base model"):
        model.merge_and_unload(tokenizer=words)
    assert model.prompt_adapters == ["default"]


def test_no_head_of_a_clip_for_image_classification_gives_these_logits(model, checkpoint):
    """Otherwise merging should make one, and it would be easier to use than a CLIP with more words."""
    images = torch.randn(150, 3, 48, 48)
    plain = CLIPForImageClassification.from_pretrained(checkpoint, num_labels=3).eval()
    seen: list[torch.Tensor] = []
    plain.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        plain(pixel_values=images)
        logits = model(pixel_values=images).logits
    features = torch.cat([seen[0], torch.ones(len(images), 1)], dim=1).double()
    centred = logits.double() - logits.double().mean(dim=0)
    best = torch.linalg.lstsq(features, centred).solution
    unexplained = (features @ best - centred).norm() / centred.norm()
    assert unexplained > 0.1, "the best head on the very images that it is fitted to"
