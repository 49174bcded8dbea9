"""A CLIP of ViT-B/16's size with random weights, classes with names of realistic lengths, and images of noise."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import CLIPConfig, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig


IMAGE_SIZE = 224
FULL_STOP, SOS, EOS = 269, 49406, 49407
# A class name has one to five tokens, 2.25 in the mean.
NAME_LENGTHS = {1: 0.30, 2: 0.35, 3: 0.20, 4: 0.10, 5: 0.05}


def make_texts(classes: int) -> list[list[int]]:
    """Draw the token ids of each class, `[SOS][name][.][EOS]`."""
    numbers = random.Random(0)
    lengths = [*numbers.choices(list(NAME_LENGTHS), list(NAME_LENGTHS.values()), k=classes - 1), max(NAME_LENGTHS)]
    return [[SOS, *(numbers.randrange(SOS) for _ in range(n)), FULL_STOP, EOS] for n in lengths]


def make_clip(**sizes: int) -> CLIPModel:
    """Make the model, both towers with these sizes instead of ViT-B/16's."""
    torch.manual_seed(0)
    text = {"bos_token_id": SOS, "eos_token_id": EOS, **sizes}
    vision = {"patch_size": 16, **sizes}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)).eval()


def with_prompt(clip: CLIPModel, classes: int, context: int, **config: Any) -> PeftModel:
    """Add a prompt for this number of classes."""
    names = [f"class {index}" for index in range(classes)]
    texts = make_texts(classes)
    return get_peft_model(
        clip, CLIPPromptConfig(num_text_tokens=context, class_names=names, class_token_ids=texts, **config)
    )


def make_images(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pixels and labels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator), torch.arange(count) % classes


def held_memory() -> int:
    """Return the bytes that this process holds now."""
    return _status("VmRSS")


def peak_memory() -> int:
    """Return the most bytes that this process has held; `getrusage` would include its parent's."""
    return _status("VmHWM")


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
