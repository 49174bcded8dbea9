"""Intersection over union and pixel accuracy, from counts of pixels that are added up over images.

The counts of an image are a few numbers, whatever its size, so that batches and processes gather these instead of
logits of all pixels, and the sums are exact:

```python
trainer = SharpPromptTrainer(
    ...,
    preprocess_logits_for_metrics=metrics.count_pixels_of_logits,
    compute_metrics=metrics.segmentation_scores,
)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers import EvalPrediction


IGNORED, BACKGROUND = -100, -1


def count_pixels(predictions: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Count the pixels of each class in one image.

    Args:
        predictions: The class of each pixel, height × width; -1 for none of the classes.
        labels: The true class of each pixel, height × width; -1 for none of the classes, -100 for pixels that do not
            count.
        num_classes: How many classes there are.

    Returns:
        3 × (classes + 1), 64-bit integers: the pixels that are predicted rightly, those that are predicted, and the
        true ones; the last column is of none of the classes.

    Raises:
        ValueError: The sizes differ; a class outside of -1 to `num_classes` - 1.
    """
    if predictions.shape != labels.shape:
        raise ValueError(
            f"The prediction has {tuple(predictions.shape)} pixels (height × width) and the labels "
            f"{tuple(labels.shape)}; scale the prediction to the size of the labels."
        )
    counted = labels != IGNORED
    predicted, true = predictions[counted], labels[counted]
    for name, values in (("predictions", predicted), ("labels", true)):
        outside = values[(values < BACKGROUND) | (values >= num_classes)]
        if len(outside):
            raise ValueError(
                f"The {name} have the class {int(outside[0])}, not one of the {num_classes} classes from 0 to "
                f"{num_classes - 1}, -1 for none of them{', or -100' if name == 'labels' else ''}."
            )
    predicted, true = (torch.where(each == BACKGROUND, num_classes, each) for each in (predicted, true))
    return torch.stack(
        [each.bincount(minlength=num_classes + 1) for each in (true[predicted == true], predicted, true)]
    )


def count_pixels_of_logits(
    logits: torch.Tensor | tuple[torch.Tensor, ...],
    labels: torch.Tensor,
    sizes: torch.Tensor | None = None,
    background: bool = False,
) -> torch.Tensor:
    """Count the pixels of each class in the images of a batch, as `preprocess_logits_for_metrics`.

    Logits are scaled bilinearly to the size of the labels, as transformers' `post_process_semantic_segmentation` does,
    one image at a time; the largest is predicted.

    Args:
        logits: images × classes × height × width; of a tuple the first.
        labels: images × height × width, -100 where they do not count.
        sizes: The own size of each image's labels, where they are padded: images × 2.
        background: True to predict none of the classes where all logits are below 0, as sigmoids do.

    Returns:
        images × 3 × (classes + 1), as of [`count_pixels`].
    """
    logits = logits[0] if isinstance(logits, tuple) else logits
    counts = []
    for index, (of_image, truth) in enumerate(zip(logits, labels)):
        height, width = truth.shape if sizes is None else sizes[index].tolist()
        predicted = class_map(of_image, (height, width), background)
        counts.append(count_pixels(predicted, truth[:height, :width], len(of_image)))
    return torch.stack(counts)


def class_map(logits: torch.Tensor, size: Sequence[int], background: bool = False) -> torch.Tensor:
    """Return the class of each pixel of an image: of the largest of the logits, which are scaled bilinearly.

    Args:
        logits: classes × height × width.
        size: The height and width of the image.
        background: True to return -1, none of the classes, where all logits are below 0, as sigmoids do.

    Returns:
        height × width.
    """
    scaled = interpolate(logits[None].float(), tuple(size), mode="bilinear", align_corners=False)[0]
    largest, predicted = scaled.max(dim=0)
    return predicted.masked_fill(largest < 0, BACKGROUND) if background else predicted


def segmentation_scores(counts: EvalPrediction | np.ndarray | torch.Tensor) -> dict[str, Any]:
    """Compute the scores from counts of pixels.

    Args:
        counts: images × 3 × (classes + 1), as of [`count_pixels_of_logits`]; or an `EvalPrediction` whose predictions
            they are.

    Returns:
        `mean_iou`: the intersection over union, right / (predicted + true - right), averaged over the classes that are
        predicted or true somewhere; nan if none is. `pixel_accuracy`: the share of pixels that are predicted rightly,
        of all that count, background included. `background_iou`: of none of the classes; nan where there is none.
    """
    iou, background, accuracy = iou_of_counts(counts)
    known = iou[~np.isnan(iou)]
    return {
        "mean_iou": float(known.mean()) if known.size else float("nan"),
        "pixel_accuracy": accuracy,
        "background_iou": background,
    }


def iou_of_counts(counts: EvalPrediction | np.ndarray | torch.Tensor) -> tuple[np.ndarray, float, float]:
    """Return the intersection over union of each class, that of the background, and the pixel accuracy.

    Args:
        counts: As of [`segmentation_scores`].
    """
    found: Any = counts.predictions if isinstance(counts, EvalPrediction) else counts
    right, predicted, true = np.asarray(found).reshape(-1, 3, np.shape(found)[-1]).sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 of 0 pixels
        iou = right / (predicted + true - right)
        accuracy = float(np.float64(right.sum()) / true.sum())
    return iou[:-1], float(iou[-1]), accuracy
