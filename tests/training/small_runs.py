"""Runs of SharpPromptTrainer small enough for tests: a random CLIP, features of five classes, two epochs."""

import copy
import functools
import os

import torch
from peft import PeftModel, get_peft_model
from sharpness.every_rule import NEEDED
from torch.nn.functional import one_hot
from transformers import AutoProcessor, CLIPConfig, CLIPModel, CLIPProcessor

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments, sharpness
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.objectives import sharpness_aware_names


CLASSES = ["red circle", "blue heart", "green star", "yellow ring", "grey moon"]
RULES = [*sharpness.names(), *sharpness_aware_names()]
# One rule of each kind, for tests of what is around a rule; tests/sharpness try every rule. In this order: without and
# with a second evaluation, with a memory, with noise, with another first step in each epoch; one looks at the learning
# rate, one at the classes, one at an angle. Then the objectives of the family.
KINDS = ["none", "sam", "fsam", "rwp", "graphsam", "extragradient", "imbsam", "gcsam", *sharpness_aware_names()]
WIDTH = 24  # of image features
DEVICE = os.environ.get("HF_SHARP_PROMPT_TEST_DEVICE", "cpu")  # "cuda" in benchmarks/gpu.py
# What a rule cannot do without, and what makes an objective matter in runs of a few steps.
SETTINGS = NEEDED | {"saf": {"epochs_ago": 1, "start": 1, "weight": 3.0}, "mesa": {"decay": 0.8, "start": 1}}


@functools.cache
def load_clip(dtype: torch.dtype) -> CLIPModel:
    """A random CLIP that reads and sees like the demo's; what it knows does not matter here."""
    tokenizer, small = (
        load_processor().tokenizer,
        {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
    )
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config={**small, **ids, "num_hidden_layers": 2, "vocab_size": len(tokenizer)},
        vision_config={**small, "num_hidden_layers": 1, "image_size": 48, "patch_size": 16},
        projection_dim=WIDTH,
        attn_implementation="sdpa" if dtype == torch.float64 else "eager",  # eager attention sums in float32
    )
    torch.manual_seed(0)
    return CLIPModel(config).to(dtype)


@functools.cache
def load_processor() -> CLIPProcessor:
    return AutoProcessor.from_pretrained(CLIP_PATH)


def make_model(dtype=torch.float64, **config) -> PeftModel:
    clip = copy.deepcopy(load_clip(dtype))
    torch.manual_seed(0)
    config = CLIPPromptConfig(num_text_tokens=3, tokenizer_name_or_path=str(CLIP_PATH), **config)
    model = get_peft_model(clip, config)
    model.set_classes(CLASSES, load_processor(), "{}.")
    return model


def make_data(count=24, dtype=torch.float64, views=1) -> ImageFeatures:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % len(CLASSES)
    centres = torch.randn(len(CLASSES), 1, WIDTH, generator=generator, dtype=dtype)
    features = centres[labels] + 0.5 * torch.randn(count, views, WIDTH, generator=generator, dtype=dtype)
    return ImageFeatures(features, labels, CLASSES)


def make_samples(count: int = 22, soft: bool = False) -> list[dict[str, torch.Tensor]]:
    """The features of `make_data` as dictionaries, with class indices or, `soft`, one-hot vectors."""
    data = make_data(count)
    labels = [one_hot(label, len(CLASSES)).double() if soft else label for label in data.labels]
    return [{"image_features": data[index]["image_features"], "labels": label} for index, label in enumerate(labels)]


def make_images(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(count, 3, 48, 48, generator=generator)
    return [{"pixel_values": each, "labels": torch.tensor(index % 5)} for index, each in enumerate(pixels)]


def make_trainer(output_dir, model=None, data=None, trainer_arguments=None, **arguments) -> SharpPromptTrainer:
    defaults = {
        "sharpness": "sam",
        "per_device_train_batch_size": 6,
        "num_train_epochs": 2,
        "learning_rate": 0.05,
        "optim": "sgd",
        "optim_args": "momentum=0.9",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": DEVICE == "cpu",
        "dataloader_pin_memory": False,
        "seed": 3,
        "sharpness_args": SETTINGS.get(arguments.get("sharpness")),
    }
    return SharpPromptTrainer(
        model if model is not None else make_model(),
        SharpPromptTrainingArguments(str(output_dir), **(defaults | arguments)),
        train_dataset=make_data() if data is None else data,
        **(trainer_arguments or {}),
    )


def prompt_of(model: PeftModel) -> torch.Tensor:
    return model.get_base_model().text_model.embeddings.clip_prompt_context["default"].detach().clone()


def train(output_dir, **arguments) -> torch.Tensor:
    trainer = make_trainer(output_dir, **arguments)
    trainer.train()
    return prompt_of(trainer.model)


def accuracy(prediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}
