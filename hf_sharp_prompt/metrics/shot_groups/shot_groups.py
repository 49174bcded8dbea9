"""Long-tailed recognition: accuracy over all classes, and over those with many, medium and few training samples."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """\
Accuracy on all samples, and on those of many-shot, medium-shot and few-shot classes: classes with many, medium and few
training samples.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (int, one per sample): Predicted classes.
    references (int, one per sample): True classes.
    Exactly one of these says which classes are which:
    group_sizes (three int): The first so many classes are many-shot, the next medium-shot, the last few-shot; the
        classes are sorted by frequency. CIFAR100-LT: [36, 35, 29].
    train_counts (int, one per class): Training samples. More than 100 are many, 20 to 100 medium, fewer than 20 few,
        as for ImageNet-LT, Places-LT and iNaturalist 2018.

Returns:
    overall, many, medium, few (float): Accuracy in [0, 1]; nan for a group without samples.

Examples:
    >>> from hf_sharp_prompt import metrics
    >>> shot_groups = metrics.load("shot_groups")
    >>> predictions, references = [0, 1, 2, 2, 0], [0, 1, 2, 3, 3]
    >>> shot_groups.compute(predictions=predictions, references=references, group_sizes=[1, 1, 2])
    {'overall': 0.6, 'many': 1.0, 'medium': 1.0, 'few': 0.3333333333333333}
    >>> shot_groups.compute(predictions=predictions, references=references, train_counts=[101, 100, 20, 19])
    {'overall': 0.6, 'many': 1.0, 'medium': 1.0, 'few': 0.0}
"""

_CITATION = """\
@inproceedings{liu2019oltr,
  title = {Large-Scale Long-Tailed Recognition in an Open World},
  author = {Liu, Ziwei and Miao, Zhongqi and Zhan, Xiaohang and Wang, Jiayun and Gong, Boqing and Yu, Stella X.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2019},
}
"""

_GROUPS = ("many", "medium", "few")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ShotGroups(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
            reference_urls=["https://arxiv.org/abs/1904.05160"],
            format="numpy",
        )

    def _compute(
        self,
        predictions: np.ndarray,
        references: np.ndarray,
        group_sizes: Sequence[int] | None = None,
        train_counts: Sequence[int] | None = None,
    ) -> dict[str, float]:
        group_of_class = _group_of_class(group_sizes, train_counts)
        for name, labels in (("predictions", predictions), ("references", references)):
            _check_labels(name, labels, len(group_of_class), "group_sizes" if train_counts is None else "train_counts")
        group = group_of_class[references]
        right = predictions == references
        with np.errstate(invalid="ignore"):  # 0 of 0 samples
            accuracies = np.bincount(group, weights=right, minlength=3) / np.bincount(group, minlength=3)
        return {"overall": float(right.mean())} | dict(zip(_GROUPS, accuracies.tolist()))


def _group_of_class(group_sizes: Sequence[int] | None, train_counts: Sequence[int] | None) -> np.ndarray:
    """Per class, the index of its group."""
    if train_counts is not None and group_sizes is None:
        counts = np.asarray(train_counts)
        return np.where(counts > 100, 0, np.where(counts >= 20, 1, 2))
    if group_sizes is None or train_counts is not None:
        raise ValueError(
            "Give either group_sizes, such as [36, 35, 29] for CIFAR100-LT, or train_counts, the training samples of "
            f"each class; {'neither' if group_sizes is None else 'both'} was given."
        )
    if len(group_sizes) != 3 or min(group_sizes) < 0:
        raise ValueError(f"group_sizes is {list(group_sizes)}; give the numbers of many, medium and few-shot classes.")
    return np.repeat(np.arange(3), group_sizes)


def _check_labels(name: str, labels: np.ndarray, num_classes: int, source: str) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"{name}[{outside[0]}] is {labels[outside[0]]}, but {source} is about the {num_classes} classes from 0 to "
            f"{num_classes - 1}; make {source} match the data set's classes."
        )
