"""`sharp-prompt export`, as typed."""

import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from peft import get_peft_model
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, ViTConfig, ViTModel, pipeline
from tuners import contract
from tuners.coop import NAMES, prompted

from hf_sharp_prompt import ViTPromptConfig
from hf_sharp_prompt import __main__ as command_line
from hf_sharp_prompt.export import ZeroShotHead
from hf_sharp_prompt.export.command import FORMATS
from hf_sharp_prompt.export.formats import WRITERS


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch):
    def export(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", [])
        return command_line.run(["export", *map(str, words)])

    return export


@pytest.fixture
def adapter(clip: CLIPModel, tokenizer, tmp_path: Path) -> Path:
    model = prompted(clip, num_text_tokens=3)
    model.set_classes(NAMES, tokenizer, "{}.")
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_help_names_every_format():
    assert tuple(WRITERS) == FORMATS


def test_a_plain_clip_is_asked_by_the_stock_pipeline(adapter, export, images: list[Image.Image], tmp_path):
    """Otherwise a prompt cannot be handed to those who know nothing of PEFT."""
    assert export(adapter, tmp_path / "out", "--format", "transformers", "head", "open_clip") == 0
    clip = CLIPModel.from_pretrained(tmp_path / "out")
    names = list(clip.config.id2label.values())
    classify = pipeline("zero-shot-image-classification", model=str(tmp_path / "out"))
    answers = classify(images, candidate_labels=names, hypothesis_template=clip.config.hypothesis_template)
    head = ZeroShotHead.load(tmp_path / "out" / "zero_shot_head.safetensors")
    pixels = CLIPImageProcessor.from_pretrained(tmp_path / "out")(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = head.logits(clip.get_image_features(pixel_values=pixels).pooler_output).softmax(dim=-1)
    found = [[{each["label"]: each["score"] for each in answer}[name] for name in names] for answer in answers]
    torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-5)
    assert (tmp_path / "out" / "open_clip.safetensors").is_file()
    assert "<|context3|>" in AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()


def test_classes_may_be_others_than_those_trained_on(adapter, export, tmp_path):
    assert export(adapter, tmp_path / "out", "--format", "head", "--class_names", "moon", "sun") == 0
    assert ZeroShotHead.load(tmp_path / "out" / "zero_shot_head.safetensors").class_names == ["moon", "sun"]


def test_a_vision_transformer_becomes_a_graph_beside_its_processor(export, image_processor, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=48, patch_size=16, **sizes)).save_pretrained(tmp_path / "vit")
    image_processor.save_pretrained(tmp_path / "vit")
    vit = ViTModel.from_pretrained(tmp_path / "vit")
    model = get_peft_model(vit, ViTPromptConfig(num_tokens=2, pooling="cls_prompt", class_names=NAMES)).eval()
    contract.randomise(model)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="no plain model has; use --format onnx"):
        export(tmp_path / "adapter", tmp_path / "out", "--format", "transformers")
    assert export(tmp_path / "adapter", tmp_path / "out", "--format", "onnx") == 0
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "classifier.onnx"))
    images = torch.randn(4, 3, 48, 48)
    with torch.no_grad():
        expected = model(pixel_values=images).logits
    (found,) = session.run(None, {"pixel_values": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)
