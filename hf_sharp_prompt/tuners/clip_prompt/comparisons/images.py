"""Classification: each image is compared with every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize
from transformers.modeling_outputs import ImageClassifierOutput

from ...class_loss import class_loss
from .comparison import Comparison, Encoders


@dataclass
class CLIPPromptOutput(ImageClassifierOutput):
    """What `classify` returns for images.

    Args:
        loss: With labels, their cross entropy.
        logits: batch × classes.
        class_features: In training: the classes' features as they were compared, normalised; classes × width, or with
            a conditional context images × classes × width.
        image_features: In training: the images' features, normalised; batch × width.
    """

    class_features: torch.Tensor | None = None
    image_features: torch.Tensor | None = None


class Images(Comparison):
    """A `CLIPModel`, or one like it, that classifies images.

    `logits = exp(logit_scale) · cos(image feature, class feature)`, with the model's bias if it has one; the loss is
    their cross entropy. Features are the pooled outputs of `get_image_features`, batch × width.
    """

    task = "image-classification"
    heads = ("visual_projection",)
    labels_images = True
    output_class = CLIPPromptOutput

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return isinstance(model, Encoders)

    def encode_images(self, **inputs: Any) -> torch.Tensor:
        return self.model.get_image_features(**inputs).pooler_output

    def prepare(self, image_features: torch.Tensor) -> torch.Tensor:
        return normalize(image_features, dim=-1)

    def condition(self, image_features: torch.Tensor) -> torch.Tensor:
        return image_features

    def predict(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.model.logit_scale.exp() * _dot(image_features.to(class_features), class_features)
        bias = dict(self.model.named_parameters(recurse=False)).get("logit_bias")
        return {"logits": logits if bias is None else logits + bias}

    def loss(
        self,
        predicted: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor | None],
        num_items_in_batch: int | torch.Tensor | None,
    ) -> torch.Tensor:
        labels = targets["labels"]
        assert labels is not None
        return class_loss(predicted["logits"], labels, num_items_in_batch)

    def features(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"class_features": class_features, "image_features": image_features}


def _dot(image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
    """Return images × texts from images × width and from texts × width, or images × texts × width."""
    if text_features.dim() == 2:
        return image_features @ text_features.T
    return (text_features @ image_features.unsqueeze(-1)).squeeze(-1)
