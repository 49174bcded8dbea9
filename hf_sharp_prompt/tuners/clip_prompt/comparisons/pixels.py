"""Segmentation: each pixel is compared with every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers.modeling_outputs import SemanticSegmenterOutput

from ...pixel_loss import PIXEL_LOSSES, pixel_loss
from ..config import CLIPPromptConfig
from .comparison import Comparison


@dataclass
class SegmentationOutput(SemanticSegmenterOutput):
    """What `classify` returns for pixels.

    Args:
        loss: With labels, that of the pixels that count.
        logits: images × classes × height × width, in the model's own resolution. `post_process_semantic_segmentation`
            of transformers scales them to an image's size.
        class_features: In training: the classes' features, normalised; classes × width.
    """

    class_features: torch.Tensor | None = None


class Pixels(Comparison):
    """Compares pixels with class texts: what dense CLIP and CLIPSeg share.

    Attributes:
        pixel_losses: The losses that it can be trained with; the first is the default.
    """

    task = "image-segmentation"
    targets = ("labels", "label_sizes")
    output_class = SegmentationOutput
    pixel_losses: ClassVar[tuple[str, ...]] = PIXEL_LOSSES
    knows_background = True

    def problem(self, config: CLIPPromptConfig) -> str | None:
        if config.conditional:
            return (
                "conditional shifts the context by the feature of a whole image, but segmentation compares pixels; "
                "use conditional=False."
            )
        if config.pixel_loss not in (None, *self.pixel_losses):
            return (
                f"pixel_loss={config.pixel_loss!r} is not for {type(self.model).__name__}, whose logits are no "
                f"sigmoids; leave it out, or set {' or '.join(map(repr, self.pixel_losses))}."
            )
        return None

    def loss(
        self,
        predicted: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor | None],
        num_items_in_batch: int | torch.Tensor | None,
    ) -> torch.Tensor:
        labels = targets["labels"]
        assert labels is not None
        kind = (self.config and self.config.pixel_loss) or self.pixel_losses[0]
        sizes = targets.get("label_sizes")
        return pixel_loss(predicted["logits"], labels, kind, self.knows_background, num_items_in_batch, sizes)
