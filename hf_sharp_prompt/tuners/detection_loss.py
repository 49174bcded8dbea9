"""The loss of predicted boxes and their classes: bipartite matching, focal classification, L1 and generalised IoU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, logsigmoid
from transformers.loss.loss_for_object_detection import generalized_box_iou

from .class_loss import IGNORED


NO_OBJECT = -1
"""The label of an image without objects, as its only one: it counts, and all in it is background."""

ALPHA, GAMMA = 0.3, 2.0
"""The focal loss weighs an object's class by ALPHA and others by 1 - ALPHA; GAMMA is the exponent of 1 - p."""


def detection_loss(
    logits: torch.Tensor,
    pred_boxes: torch.Tensor,
    labels: torch.Tensor,
    boxes: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Return OWL-ViT's loss, divided by the number of objects.

    Each object of an image is matched with one predicted box, so that the sum over pairs is least of

        focal cost of the object's class + L1 distance of the boxes - their generalised IoU.

    The loss is the sum over images of the focal loss of all predictions and classes, whose targets are 1 for matched
    ones at their object's class and else 0, and over pairs of `L1 + 1 - GIoU`. All three weigh 1, as in the configs of
    the authors' code; alpha and gamma are theirs, too. They divide by the objects of each image and take the mean over
    images, for which here the sum is divided by the objects of the whole batch, as in DETR, so that the losses of
    micro-batches and processes add up.

    The matching is part of the loss, so that the loss is a function of the parameters alone: each gradient evaluation
    of a sharpness rule matches at the parameters where it looks. The gradient is that of the pairs at hand.

    Args:
        logits: batch × predictions × classes.
        pred_boxes: batch × predictions × 4: centre, width and height in shares of the input. Where no gradient reaches
            them, only the classification is learned.
        labels: batch × most objects: class indices; -100 pads; an image without objects has one -1, and counts as one.
            An image all of whose labels are -100 is ignored.
        boxes: batch × most objects × 4, as `pred_boxes`; those of labels that are no class are not looked at.
        num_items_in_batch: What the sum is divided by; by default the number of labels other than -100.

    Raises:
        ValueError: Labels or boxes of another shape, or labels outside the classes (of tensors on the CPU, as in
            [`class_loss`]).
        ImportError: There is no scipy.

    Reference:
        Minderer et al., "Simple Open-Vocabulary Object Detection with Vision Transformers", ECCV 2022,
        https://arxiv.org/abs/2205.06230; scenic/projects/owl_vit/losses.py and configs/clip_b32_finetune.py.
        Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872.
    """
    _check(logits, labels, boxes)
    counts = labels != IGNORED
    number = counts.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    image, prediction, place = match(logits, pred_boxes, labels, boxes)
    targets = torch.zeros_like(logits)
    targets[image, prediction, labels[image, place]] = 1
    total = focal_loss(logits, targets)[counts.any(dim=1)].sum()
    found, sought = pred_boxes[image, prediction], boxes[image, place].to(pred_boxes)
    if len(found):
        overlap = generalized_box_iou(corners(found), corners(sought)).diagonal()
        total = total + l1_loss(found, sought, reduction="sum") + (1 - overlap).sum()
    return total / (number.to(total.device) if isinstance(number, torch.Tensor) else number)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Return the left, top, right and bottom of boxes, … × 4, of their centre, width and height."""
    centre, size = boxes.split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def focal_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return `-α_t (1 - p_t)^γ log p_t` of each logit, for targets of 0 and 1 (Lin et al., arXiv:1708.02002)."""
    probability = logits.sigmoid()
    of_target = probability * targets + (1 - probability) * (1 - targets)
    weight = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return weight * (1 - of_target) ** GAMMA * losses


@torch.no_grad()
def match(
    logits: torch.Tensor, pred_boxes: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Match the objects of each image with predictions, at the least cost.

    Args:
        logits, pred_boxes, labels, boxes: As for [`detection_loss`].

    Returns:
        Of each pair the image, the prediction and the object's place among the image's, as three index tensors. Of
        more objects than predictions some are left out.
    """
    device = logits.device
    logits, pred_boxes, labels, boxes = (each.cpu() for each in (logits, pred_boxes, labels, boxes))
    pairs: list[tuple[int, int, int]] = []
    for image, row in enumerate(labels):
        places = (row >= 0).nonzero()[:, 0]
        if not len(places):
            continue
        cost = matching_cost(logits[image], pred_boxes[image], row[places], boxes[image, places])
        # Costs that are not finite are as high as can be. That the loss is not finite either is seen elsewhere.
        largest = torch.finfo(cost.dtype).max
        pairs += [(image, p, int(places[o])) for p, o in _assign(cost.nan_to_num(largest, largest, largest))]
    images, predictions, objects = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).to(device).unbind(dim=1)
    return images, predictions, objects


def matching_cost(
    logits: torch.Tensor, pred_boxes: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor
) -> torch.Tensor:
    """Return what it costs to match each prediction of an image with each object, predictions × objects.

    Args:
        logits: predictions × classes.
        pred_boxes: predictions × 4.
        labels: The objects' classes.
        boxes: objects × 4.
    """
    logits, boxes = logits[:, labels], boxes.to(pred_boxes)
    as_object = -ALPHA * logsigmoid(logits) * (-logits).sigmoid() ** GAMMA
    as_background = -(1 - ALPHA) * logsigmoid(-logits) * logits.sigmoid() ** GAMMA
    distance = (pred_boxes[:, None] - boxes).abs().sum(dim=-1)
    overlap = generalized_box_iou(corners(pred_boxes), corners(boxes))
    return as_object - as_background + distance - overlap


def _assign(cost: torch.Tensor) -> list[tuple[int, int]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(
            'Matching objects with predicted boxes needs scipy; install it with pip install "hf-sharp-prompt[dense]".'
        ) from error
    rows, columns = linear_sum_assignment(cost.double().numpy())
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _check(logits: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor) -> None:
    if labels.dim() != 2 or len(labels) != len(logits) or boxes.shape != (*labels.shape, 4):
        raise ValueError(
            f"Labels must be batch × most objects and boxes batch × most objects × 4, for {len(logits)} images; they "
            f"are {_shape(labels.shape)} and {_shape(boxes.shape)}."
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        classes = logits.shape[-1]
        outside = labels[(labels >= classes) | ((labels < 0) & (labels != IGNORED) & (labels != NO_OBJECT))]
        if len(outside):
            raise ValueError(
                f"Label {int(outside[0])} of an object is not among the {classes} classes, which are 0 to "
                f"{classes - 1}; give the model the classes of the data, drop these objects, label them {IGNORED} to "
                f"ignore them, or {NO_OBJECT} an image without objects."
            )


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
