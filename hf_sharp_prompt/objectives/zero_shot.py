"""What the base model says without prompts: what objectives keep learned prompts close to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch import nn
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from .batch import Batch
from .evaluation_mode import evaluation_mode


def classifier(model: nn.Module, objective: str) -> nn.Module:
    """The model that classifies among texts of class names, out of what a loop wraps it in.

    Raises:
        ValueError: It classifies in another way, or its adapter has no classes.
    """
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    if not hasattr(model, "encode_names"):
        kind = type(model.get_base_model() if isinstance(model, PeftModel) else model).__name__
        raise ValueError(
            f"{objective} compares learned with hand-written texts of class names, but this {kind} reads no texts; "
            "use a CLIP-like model with a CLIPPromptConfig, or leave the objective out."
        )
    if model.active_config.class_token_ids is None:
        raise ValueError(
            f"{objective} compares texts of the classes, but none are set; call model.set_classes(names, tokenizer)."
        )
    return model


def check_that_texts_train(model: nn.Module, objective: str) -> None:
    """Check that the active adapter has something to learn beside texts.

    Raises:
        ValueError: It has not, so the objective would be constant.
    """
    if not model.active_config.num_text_tokens:
        raise ValueError(
            f"{objective} keeps the texts' features where they are, but with num_text_tokens=0 they do not move; give "
            "the adapter context tokens, or leave the objective out."
        )


def find_tokenizer(model: nn.Module) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, where none is given.

    Raises:
        ValueError: The base model was not loaded by name.
    """
    return model.load_tokenizer(
        model.active_config, "An objective about texts", "the Trainer a processing_class that holds the tokenizer"
    )


@torch.no_grad()
def encode_without_prompts(
    model: nn.Module, names: Sequence[str], templates: Sequence[str], tokenizer: Any
) -> torch.Tensor:
    """Features of names in hand-written texts, templates × names × width, not normalised."""
    tokenizer = tokenizer or find_tokenizer(model)
    with model.without_prompts(), evaluation_mode(model):
        texts = [model.tokenize_names(names, tokenizer, template) for template in templates]
        return torch.stack([model.encode_names(*each) for each in texts])


@torch.no_grad()
def image_features_without_prompts(batch: Batch, objective: str) -> torch.Tensor:
    """Normalised features of a micro-batch's images, batch × width."""
    model = classifier(batch.model, objective)
    if model.sees_images_frozen:
        return features_of(batch, "image_features").detach()
    if batch.frozen_image_features is None:
        batch.frozen_image_features = model.encode_images(**batch.inputs)
    return normalize(batch.frozen_image_features, dim=-1)


def features_of(batch: Batch, name: str) -> torch.Tensor:
    """`class_features` or `image_features` as the forward pass compared them, in float32 or better.

    Raises:
        ValueError: The model did not train, and so does not give them.
    """
    features = getattr(batch.outputs, name, None)
    if features is None:
        raise ValueError(f"The model gives its {name} to objectives while it trains; call model.train() before.")
    return features.to(torch.promote_types(features.dtype, torch.float32))
