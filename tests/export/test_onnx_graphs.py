"""Whole classifiers and towers as ONNX, run by onnxruntime with images and classes that they were not traced with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import CLIPConfig, CLIPModel
from tuners import contract

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.export import write_onnx_classifier, write_onnx_towers


NAMES = ["blue heart", "red star", "cat"]
OTHER_NAMES = ["a big green moon", "dog", "ring", "white cross on the moon", "sun"]
IMAGES = torch.randn(5, 3, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def shallow_clip(checkpoint: str) -> CLIPModel:
    """A CLIP of one layer in each tower: exporting takes seconds for each layer."""
    config = CLIPConfig.from_pretrained(checkpoint)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 1
    return CLIPModel.from_pretrained(checkpoint, config=config).eval()


def with_classes(clip: CLIPModel, tokenizer: Any, **config: Any) -> PeftModel:
    model = get_peft_model(clip, CLIPPromptConfig(**config))
    model.set_classes(NAMES, tokenizer, "{}, a shape.")
    contract.randomise(model)
    return model.eval()


def run(file: Path, **inputs: Any) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return torch.from_numpy(output)


def test_a_classifier_answers_other_numbers_of_images_and_classes(shallow_clip, tokenizer, tmp_path):
    """The design has the most inputs and parts: each image shifts the context, which follows the name."""
    model = with_classes(
        shallow_clip, tokenizer, conditional=True, class_token_position="front", num_text_tokens=3, num_vision_tokens=2
    )
    file = write_onnx_classifier(model, tmp_path / "new")
    metadata = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    with torch.no_grad():
        own = model(pixel_values=IMAGES[:1]).logits
        others = model.classify(IMAGES, names=OTHER_NAMES, tokenizer=tokenizer).logits
    assert json.loads(metadata["class_names"]) == NAMES
    ids, ends = (np.array(json.loads(metadata[name])) for name in ("input_ids", "name_ends"))
    torch.testing.assert_close(
        run(file, pixel_values=IMAGES[:1], input_ids=ids, name_ends=ends), own, rtol=0, atol=1e-4
    )
    texts = tokenizer([metadata["template"].replace("{}", name) for name in OTHER_NAMES], padding=True)["input_ids"]
    ends = [len(tokenizer(name)["input_ids"]) - 1 for name in OTHER_NAMES]
    found = run(file, pixel_values=IMAGES, input_ids=texts, name_ends=ends)
    torch.testing.assert_close(found, others, rtol=0, atol=1e-4)


def test_towers_are_compared_as_the_classifier_does(shallow_clip, tokenizer, tmp_path):
    model = with_classes(shallow_clip, tokenizer)
    text, image = write_onnx_towers(model, tmp_path)
    metadata = onnxruntime.InferenceSession(str(text)).get_modelmeta().custom_metadata_map
    ids = tokenizer([metadata["template"].replace("{}", name) for name in OTHER_NAMES], padding=True)["input_ids"]
    texts, images = run(text, input_ids=ids), run(image, pixel_values=IMAGES)
    logits = float(metadata["logit_scale"]) * images @ texts.T + float(metadata["logit_bias"])
    with torch.no_grad():
        expected = model.classify(IMAGES, names=OTHER_NAMES, tokenizer=tokenizer).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_what_cannot_be_written_is_refused_and_nothing_is_left(clip, tokenizer, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"model\.float"):
        write_onnx_classifier(with_classes(clip, tokenizer).half(), tmp_path / "new")
    model = get_peft_model(CLIPModel(clip.config), CLIPPromptConfig())
    with pytest.raises(ValueError, match="set_classes"):
        write_onnx_classifier(model, tmp_path / "new")
    model = with_classes(CLIPModel(clip.config), tokenizer, conditional=True)
    with pytest.raises(ValueError, match=r"every image \(conditional\).* use write_onnx_classifier"):
        write_onnx_towers(model, tmp_path / "new")
    monkeypatch.setattr("hf_sharp_prompt.extras.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"hf-sharp-prompt\[onnx\]"):
        write_onnx_classifier(model, tmp_path / "new")
    assert not list(tmp_path.iterdir())
