"""The loss of logits over classes, and what its labels must satisfy."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy


IGNORED = -100


def class_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross entropy, divided by the number of samples.

    Args:
        logits: batch × classes.
        labels: Class indices, batch, where -100 is ignored; or probabilities of the classes, batch × classes.
        num_items_in_batch: What the summed loss is divided by; by default the number of samples that count.

    Raises:
        ValueError: Labels of another shape, or outside the classes. On an accelerator the values of labels are not
            looked at, because that would wait for the device; there torch stops with its own assertion.
    """
    if labels.is_floating_point():
        if labels.shape != logits.shape:
            raise ValueError(
                f"Labels that are probabilities must be batch × classes, here {_shape_of(logits)}, but they are "
                f"{_shape_of(labels)}; give class indices as integers, or a probability for each class."
            )
        precision = torch.promote_types(logits.dtype, labels.dtype)
        return _mean_loss(logits.to(precision), labels.to(precision), num_items_in_batch)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        check_labels(labels, logits.shape[-1])
    return _mean_loss(logits, labels, num_items_in_batch)


def _mean_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None
) -> torch.Tensor:
    if num_items_in_batch is None:
        return cross_entropy(logits, labels, ignore_index=IGNORED)
    total = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(total.device)
    return total / num_items_in_batch


def check_labels(labels: torch.Tensor, num_classes: int) -> None:
    """Check that labels are indices of the classes, or -100.

    Raises:
        ValueError: A label outside the classes; it is named.
    """
    outside = labels[((labels < 0) | (labels >= num_classes)) & (labels != IGNORED)]
    if len(outside):
        raise ValueError(
            f"Label {int(outside[0])} is not among the {num_classes} classes, which are 0 to {num_classes - 1}; give "
            f"the model the classes of the data, drop these samples, or label them {IGNORED} to ignore them."
        )


def _shape_of(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
