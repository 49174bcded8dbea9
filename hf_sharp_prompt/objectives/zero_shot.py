"""Predictions and features of the base model without prompts, to which objectives keep learned prompts close."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch import nn
from torch.nn.functional import normalize

from .batch import Batch
from .evaluation_mode import evaluation_mode


@runtime_checkable
class NameClassifier(Protocol):
    """A model that compares images with texts of class names, such as CLIP with a prompt adapter."""

    @property
    def active_config(self) -> Any:
        """The config of the active adapter."""

    @property
    def sees_images_frozen(self) -> bool:
        """True if images are encoded without anything that trains."""

    def load_tokenizer(self, config: Any, what: str, otherwise: str) -> Any:
        """Load the base model's tokenizer; `what` needs it, and the user could give `otherwise`."""

    def tokenize_names(
        self, names: Sequence[str], tokenizer: Any, template: str = "{}"
    ) -> tuple[list[list[int]], list[int]]:
        """Return the names' token ids, and where in these the names end."""

    def encode_names(self, token_ids: Sequence[Sequence[int]], name_ends: Sequence[int] | None = None) -> torch.Tensor:
        """Return features of names, names × width, not normalised."""

    def encode_images(self, **inputs: Any) -> torch.Tensor:
        """Return features of images without prompts, batch × width, not normalised."""

    def compare(self, image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Return the logits of images and texts, from normalised features."""

    def without_prompts(self) -> AbstractContextManager[None]:
        """Make it the base model within the block."""


def classifier(model: nn.Module, objective: str) -> NameClassifier:
    """Return the model that compares images with texts of class names, without the wrappers of a training loop.

    Raises:
        ValueError: The model classifies in another way, or its adapter has no classes.
    """
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    prompted = model.base_model if isinstance(model, PeftModel) else model
    if not isinstance(prompted, NameClassifier):
        kind = type(model.get_base_model() if isinstance(model, PeftModel) else model).__name__
        raise ValueError(
            f"{objective} compares learned with hand-written texts of class names, but this {kind} reads no texts; "
            "use a CLIP-like model with a CLIPPromptConfig, or leave the objective out."
        )
    if prompted.active_config.class_token_ids is None:
        raise ValueError(
            f"{objective} compares texts of the classes, but none are set; call model.set_classes(names, tokenizer)."
        )
    return prompted


def check_that_texts_train(model: NameClassifier, objective: str) -> None:
    """Check that the active adapter learns context tokens of texts.

    Raises:
        ValueError: It does not, so the objective would be constant.
    """
    if not model.active_config.num_text_tokens:
        raise ValueError(
            f"{objective} keeps the texts' features where they are, but with num_text_tokens=0 they do not move; give "
            "the adapter context tokens, or leave the objective out."
        )


def find_tokenizer(model: NameClassifier, tokenizer: Any) -> Any:
    """Return the tokenizer, or, if it is None, the one that the model loads.

    Raises:
        ValueError: The model knows no checkpoint with a tokenizer.
    """
    return tokenizer or model.load_tokenizer(
        model.active_config, "An objective about texts", "the Trainer a processing_class that holds the tokenizer"
    )


@torch.no_grad()
def encode_without_prompts(
    model: nn.Module, objective: str, names: Sequence[str], templates: Sequence[str], tokenizer: Any
) -> torch.Tensor:
    """Return features of names in hand-written texts, templates × names × width, not normalised."""
    prompted = classifier(model, objective)
    tokenizer = find_tokenizer(prompted, tokenizer)
    with prompted.without_prompts(), evaluation_mode(model):
        texts = [prompted.tokenize_names(names, tokenizer, template) for template in templates]
        return torch.stack([prompted.encode_names(*each) for each in texts])


@torch.no_grad()
def image_features_without_prompts(batch: Batch, objective: str) -> torch.Tensor:
    """Return the normalised features of a micro-batch's images without prompts, batch × width."""
    model = classifier(batch.model, objective)
    if model.sees_images_frozen:
        return features_of(batch, "image_features").detach()
    if batch.frozen_image_features is None:
        batch.frozen_image_features = model.encode_images(**batch.inputs)
    return normalize(batch.frozen_image_features, dim=-1)


def features_of(batch: Batch, name: str) -> torch.Tensor:
    """Return `class_features` or `image_features` as the forward pass compared them, in float32 or better.

    Raises:
        ValueError: The model was not in training mode, in which it returns them.
    """
    features = getattr(batch.outputs, name, None)
    if features is None:
        raise ValueError(f"The model gives its {name} to objectives while it trains; call model.train() before.")
    return features.to(torch.promote_types(features.dtype, torch.float32))
