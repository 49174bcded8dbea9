"""The loss of logits of pixels over classes, and what its labels must satisfy."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import interpolate, softplus
from torch.utils.checkpoint import checkpoint

from .class_loss import IGNORED


BACKGROUND = -1
"""The label of pixels that show none of the classes."""

BINARY, MULTI_CLASS = "binary", "multi_class"
PIXEL_LOSSES = (MULTI_CLASS, BINARY)

BYTES = 2**28
"""How many bytes of scaled logits are held at a time; of more images the backward pass scales the logits again."""


def pixel_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    kind: str,
    knows_background: bool,
    num_items_in_batch: int | torch.Tensor | None = None,
    label_sizes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the loss of pixels, divided by the number of those that count.

    Logits z are scaled bilinearly to the size of the labels. The loss of a pixel of class y is

    - binary: the cross entropy of the sigmoid of each class, averaged over the classes;
    - multi-class: the cross entropy of their softmax, `log Σ exp(z_c) - z_y`.

    A pixel of background is negative for every sigmoid. In the softmax background is one more class, whose logit is 0:
    it wins where all others are negative, as it does for sigmoids.

    Args:
        logits: images × classes × height × width.
        labels: Class indices, images × height × width; -1 for background, -100 for pixels that do not count.
        kind: `binary` or `multi_class`.
        knows_background: Whether the model can answer "none of the classes".
        num_items_in_batch: What the summed loss is divided by; by default the number of pixels that count.
        label_sizes: The own size of each image's labels, images × 2, where they are padded to a common one.

    Raises:
        ValueError: Labels of another shape, or outside the classes; background for a model that does not know it. On
            an accelerator the values of labels are not looked at; there unknown background is ignored.
    """
    if labels.dim() != 3 or len(labels) != len(logits) or labels.is_floating_point():
        raise ValueError(
            f"Labels of pixels must be whole numbers, images × height × width, with {len(logits)} images, but they "
            f"are {labels.dtype} of the shape {tuple(labels.shape)}."
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_labels(labels, logits.shape[1], knows_background)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total_of = partial(_total, kind=kind, knows_background=knows_background)
    if label_sizes is None:
        bytes_of_image = logits.shape[1] * labels[0].numel() * logits.element_size()
        groups = list(zip(*(each.split(max(1, BYTES // bytes_of_image)) for each in (logits, labels))))
    else:
        sizes = enumerate(label_sizes.tolist())
        groups = [(logits[i : i + 1], labels[i : i + 1, :height, :width]) for i, (height, width) in sizes]
    if len(groups) > 1 and torch.is_grad_enabled():
        totals = [checkpoint(total_of, *group, use_reentrant=False) for group in groups]
    else:
        totals = [total_of(*group) for group in groups]
    total = torch.stack(totals).sum()
    if num_items_in_batch is None:
        num_items_in_batch = (labels != IGNORED).sum().clamp(min=1)
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(total.device)
    return total / num_items_in_batch


def _total(logits: torch.Tensor, labels: torch.Tensor, kind: str, knows_background: bool) -> torch.Tensor:
    """Return the sum of the pixels' losses."""
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    shows_class = labels >= 0
    counted = shows_class | ((labels == BACKGROUND) & knows_background)
    of_label = logits.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1).where(shows_class, 0)
    if kind == BINARY:
        losses = (softplus(logits).sum(dim=1) - of_label) / logits.shape[1]
    else:
        all_logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1) if knows_background else logits
        losses = all_logits.logsumexp(dim=1) - of_label
    return losses.where(counted, 0).sum()


def _check_labels(labels: torch.Tensor, num_classes: int, knows_background: bool) -> None:
    outside = labels[(labels != IGNORED) & ((labels < BACKGROUND) | (labels >= num_classes))]
    if len(outside):
        raise ValueError(
            f"A pixel has the label {int(outside[0])}, not one of the {num_classes} classes, which are 0 to "
            f"{num_classes - 1}; label background {BACKGROUND}, and pixels that do not count {IGNORED}."
        )
    if not knows_background and bool((labels == BACKGROUND).any()):
        raise ValueError(
            f"Pixels are labelled {BACKGROUND} (background), but this model compares each pixel with the classes "
            f"alone and cannot answer that it shows none. Ignore background (label {IGNORED}, or "
            "SegmentationCollator(background=IGNORED)), or make it a class with a name."
        )
