"""Small random models that find objects or segment, with an adapter each, saved as a user has them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from peft import get_peft_model
from transformers import (
    CLIPImageProcessorPil,
    CLIPProcessor,
    CLIPSegProcessor,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    OwlViTImageProcessorPil,
    OwlViTProcessor,
    ViTImageProcessorPil,
)
from tuners.clip_models import clip_tokenizer, make_model

from hf_sharp_prompt import CLIPPromptConfig


NAMES = ["red star", "blue heart", "green moon"]
SIDE = {"height": 48, "width": 48}

KINDS = {
    "OwlViTForObjectDetection": lambda: OwlViTProcessor(OwlViTImageProcessorPil(size=SIDE), clip_tokenizer()),
    "Owlv2ForObjectDetection": lambda: Owlv2Processor(Owlv2ImageProcessorPil(size=SIDE), clip_tokenizer()),
    "CLIPSegForImageSegmentation": lambda: CLIPSegProcessor(ViTImageProcessorPil(size=SIDE), clip_tokenizer()),
    "CLIPModel": lambda: CLIPProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size=SIDE), clip_tokenizer()
    ),
}


class Saved(NamedTuple):
    """A base model and an adapter, as directories."""

    base: Path
    adapter: Path


def save_adapter(name: str, directory: Path) -> Saved:
    """Save a model, its processor, and an adapter that names it."""
    saved = Saved(directory / "base", directory / "adapter")
    base = make_model(name)
    base.save_pretrained(saved.base)
    base.name_or_path = str(saved.base)
    KINDS[name]().save_pretrained(saved.base)
    task = {"task": "image-segmentation"} if name == "CLIPModel" else {}
    torch.manual_seed(0)
    model = get_peft_model(base, CLIPPromptConfig(num_text_tokens=3, **task))
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.normal_(std=0.5)
    model.set_classes(NAMES, clip_tokenizer(), "{}.")
    model.save_pretrained(saved.adapter)
    return saved
