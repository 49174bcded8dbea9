"""Semantic segmentation: mean intersection over union and pixel accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import torch

from hf_sharp_prompt.metrics.classification import make_info
from hf_sharp_prompt.metrics.segmentation import count_pixels, iou_of_counts, segmentation_scores


_DESCRIPTION = """\
The intersection over union (IoU) of the pixels that are predicted and those that are truly of a class, over all images
together, averaged over the classes (mIoU); and the share of pixels whose class is predicted rightly.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (int, height × width per image): The class of each pixel; -1 for none of the classes.
    references (int, height × width per image): The true classes; -1 for none of the classes, -100 for pixels that do
        not count.
    num_classes (int): How many classes there are.

Returns:
    mean_iou (float): In [0, 1], over the classes that are predicted or true somewhere; background is none of them.
    pixel_accuracy (float): Over all pixels that count, background included.
    background_iou (float): The IoU of the pixels of no class; nan where there are none.
    per_class_iou (list of float, one per class): nan for a class that is neither predicted nor true anywhere.

Examples:
    >>> from hf_sharp_prompt import metrics
    >>> mean_iou = metrics.load("mean_iou")
    >>> mean_iou.compute(predictions=[[[0, 0], [1, 1]]], references=[[[0, 1], [1, 1]]], num_classes=2)["mean_iou"]
    0.5833333333333333
"""

_CITATION = """\
@article{everingham2015voc,
  title = {The Pascal Visual Object Classes Challenge: A Retrospective},
  author = {Everingham, Mark and Eslami, S. M. Ali and Van Gool, Luc and Williams, Christopher K. I. and
    Winn, John and Zisserman, Andrew},
  journal = {International Journal of Computer Vision},
  year = {2015},
}
"""

_MAP = datasets.List(datasets.List(datasets.Value("int64")))


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MeanIou(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return make_info(
            _DESCRIPTION,
            _KWARGS_DESCRIPTION,
            _CITATION,
            ["http://host.robots.ox.ac.uk/pascal/VOC/"],
            format=None,
            predictions=_MAP,
            references=_MAP,
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[Sequence[int]]],
        references: Sequence[Sequence[Sequence[int]]],
        num_classes: int,
    ) -> dict[str, float | list[float]]:
        counts = torch.stack(
            [
                count_pixels(torch.as_tensor(predicted), torch.as_tensor(true), num_classes)
                for predicted, true in zip(predictions, references, strict=True)
            ]
        )
        iou, _, _ = iou_of_counts(counts)
        return {**segmentation_scores(counts), "per_class_iou": iou.tolist()}
