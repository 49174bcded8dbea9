"""Detections of an image that no better one overlaps."""

from __future__ import annotations

import torch


def suppress_overlaps(boxes: torch.Tensor, labels: torch.Tensor, overlap: float) -> torch.Tensor:
    """Return the places of the detections that overlap with no better one of their class (non-maximum suppression).

    Args:
        boxes: detections × 4: left, top, right, bottom; best first.
        labels: The classes, detections.
        overlap: The intersection over union above which the worse one is dropped.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).unbind(1)
    areas = width * height
    is_kept = torch.ones(len(boxes), dtype=torch.bool)
    for place in range(len(boxes)):
        if is_kept[place]:
            shared = (
                (torch.minimum(boxes[:, 2:], boxes[place, 2:]) - torch.maximum(boxes[:, :2], boxes[place, :2]))
                .clamp(min=0)
                .prod(dim=1)
            )
            overlaps = shared / (areas + areas[place] - shared).clamp(min=torch.finfo(boxes.dtype).tiny)
            is_kept[place + 1 :] &= ((overlaps <= overlap) | (labels != labels[place]))[place + 1 :]
    return is_kept.nonzero().squeeze(1)
