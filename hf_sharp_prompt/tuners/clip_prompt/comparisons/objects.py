"""Detection: each patch of an image proposes a box, and is compared with every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils import ModelOutput

from ...detection_loss import detection_loss
from ..config import CLIPPromptConfig
from .comparison import Comparison, is_a


EPSILON = 1e-6
"""What OWL-ViT's class head adds to a norm before it divides by it."""


@dataclass
class DetectionOutput(ModelOutput):
    """What `classify` returns of a detector.

    Args:
        loss: With labels and boxes, the detection loss.
        logits: batch × patches × classes; the score of a class is its sigmoid.
        pred_boxes: batch × patches × 4: the centre, width and height of a box, as shares of the model's input.
        class_features: In training: the classes' features as they were compared, normalised; classes × width.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    class_features: torch.Tensor | None = None


class Objects(Comparison):
    """An `OwlViTForObjectDetection` or `Owlv2ForObjectDetection`.

    `logits = (cos(embedding of a patch, class feature) + shift of the patch) · scale of the patch`, as the model's
    class head computes them; the boxes are its box head's. See [`detection_loss`] for the loss. Both heads stay
    frozen. Where no vision token trains, boxes cannot change, and only the classification of boxes is learned.

    Features of images are batch × patches × (width + 6): what the heads make of each patch, namely its embedding,
    normalised, its shift, its scale and its box.

    Labels are batch × most objects: class indices, -100 to pad, and for an image without objects one -1
    (`NO_OBJECT`); `boxes` are batch × most objects × 4, as `pred_boxes`. `crowds`, which metrics read, have no part in
    the loss.

    Reference:
        Minderer et al., "Simple Open-Vocabulary Object Detection with Vision Transformers", ECCV 2022,
        https://arxiv.org/abs/2205.06230
    """

    task = "object-detection"
    heads = ("layer_norm", "class_head", "box_head")
    fewest_classes = 1
    targets = ("labels", "boxes", "crowds")
    output_class = DetectionOutput

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        return is_a(model, "OwlViTForObjectDetection", "Owlv2ForObjectDetection")

    @property
    def encoders_name(self) -> str:
        return self.model.base_model_prefix

    def problem(self, config: CLIPPromptConfig) -> str | None:
        if config.conditional:
            return (
                f"conditional shifts the context by the feature of a whole image, and {type(self.model).__name__} has "
                "none: it was trained without one, and its heads read every patch. Drop conditional (CoCoOp), or use "
                "another design, such as coop."
            )
        return None

    def encode_images(self, **inputs: Any) -> torch.Tensor:
        feature_map = self.model.image_embedder(**inputs)[0]  # batch × rows × columns × width
        patches, head = feature_map.flatten(1, 2), self.model.class_head
        embeddings = _unit(head.dense0(patches))
        shift, scale = head.logit_shift(patches), head.elu(head.logit_scale(patches)) + 1
        boxes = self.model.box_predictor(patches, feature_map, inputs.get("interpolate_pos_encoding", False))
        return torch.cat([embeddings, shift, scale, boxes], dim=-1)

    def predict(self, image_features: torch.Tensor, class_features: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes = [class_features.shape[-1], 1, 1, 4]
        embeddings, shift, scale, boxes = image_features.to(class_features.device).split(sizes, dim=-1)
        logits = (embeddings.to(class_features) @ _unit(class_features).T + shift) * scale
        return {"logits": logits.to(torch.promote_types(logits.dtype, torch.float32)), "pred_boxes": boxes}

    def loss(
        self,
        predicted: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor | None],
        num_items_in_batch: int | torch.Tensor | None,
    ) -> torch.Tensor:
        labels, boxes = targets["labels"], targets.get("boxes")
        if labels is None or boxes is None:
            raise ValueError("Labels of objects come with their boxes; give boxes, batch × most objects × 4, as well.")
        return detection_loss(predicted["logits"], predicted["pred_boxes"], labels, boxes, num_items_in_batch)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Return the vectors at length 1, as OWL-ViT's class head does."""
    return vectors / (torch.linalg.norm(vectors, dim=-1, keepdim=True) + EPSILON)
