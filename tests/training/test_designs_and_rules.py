"""Every design of prompts, and every sharpness rule, learns in the Trainer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from sharpness.every_rule import NEEDED, names
from support.rotation import rotate
from tuners.clip_designs import NAMES, TEMPLATE, make_config
from tuners.clip_models import clip_tokenizer, make_model

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments


# Together they have every part that a design can learn, in every place.
DESIGNS = [".coop()", "class-specific, deep", "conditional, front", "vision, shallow", ".vpt()", ".ivlp()", ".maple()"]
LABELS = torch.arange(6) % len(NAMES)


def images() -> list[dict[str, torch.Tensor]]:
    """Two of each class, each class with its own colour, in noise."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.eye(3)[LABELS][:, :, None, None]
    pixel_values = colours + 0.3 * torch.randn(len(LABELS), 3, 48, 48, generator=generator)
    return [{"pixel_values": image, "labels": label} for image, label in zip(pixel_values, LABELS)]


@pytest.mark.parametrize(("rule", "design"), rotate(names(), DESIGNS))
def test_the_loss_falls(rule: str, design: str, tmp_path: Path):
    """Otherwise a method that the table of methods promises does not train.

    Designs take turns over the rules: a rule sees one vector, whichever parts of a design it is made of.
    """
    clip = make_model("CLIPModel")
    clip.logit_scale.data.fill_(math.log(100))  # as CLIP's is after training; features of random towers are alike
    model = get_peft_model(clip, make_config(design))
    model.set_classes(NAMES, clip_tokenizer(), TEMPLATE)
    batch = {"pixel_values": torch.stack([each["pixel_values"] for each in images()]), "labels": LABELS}
    with torch.no_grad():
        before = model(**batch).loss
    trainer = SharpPromptTrainer(
        model,
        SharpPromptTrainingArguments(
            str(tmp_path),
            sharpness=rule,
            sharpness_args=NEEDED.get(rule),
            class_counts=LABELS.bincount().tolist(),
            per_device_train_batch_size=len(LABELS),
            max_steps=4,
            learning_rate=0.02,
            lr_scheduler_type="constant",
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=images(),
    )
    trainer.train()
    with torch.no_grad():
        after = model.eval()(**batch).loss
    assert after < before - 0.01
