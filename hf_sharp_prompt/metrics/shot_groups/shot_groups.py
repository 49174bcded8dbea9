"""Long-tailed recognition: accuracy over all classes, and over those with many, medium and few training samples."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
import numpy as np

from hf_sharp_prompt.metrics.classification import accuracy_by_group, check_labels, make_info


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
        return make_info(_DESCRIPTION, _KWARGS_DESCRIPTION, _CITATION, ["https://arxiv.org/abs/1904.05160"])

    def _compute(
        self,
        predictions: np.ndarray,
        references: np.ndarray,
        group_sizes: Sequence[int] | None = None,
        train_counts: Sequence[int] | None = None,
    ) -> dict[str, float]:
        group_of_class = _group_of_class(group_sizes, train_counts)
        source = "group_sizes" if train_counts is None else "train_counts"
        for name, labels in (("predictions", predictions), ("references", references)):
            check_labels(name, labels, len(group_of_class), f"make {source} match the data set's classes")
        correct = predictions == references
        accuracies = accuracy_by_group(correct, group_of_class[references], len(_GROUPS))
        return {"overall": float(correct.mean())} | dict(zip(_GROUPS, accuracies.tolist()))


def _group_of_class(group_sizes: Sequence[int] | None, train_counts: Sequence[int] | None) -> np.ndarray:
    """Number the groups of all classes: 0 for many, 1 for medium, 2 for few."""
    if train_counts is not None and group_sizes is None:
        counts = np.asarray(train_counts)
        return np.where(counts > 100, 0, np.where(counts >= 20, 1, 2))
    if group_sizes is None or train_counts is not None:
        raise ValueError(
            "Give either group_sizes, such as [36, 35, 29] for CIFAR100-LT, or train_counts, the training samples of "
            f"each class; got {'neither' if group_sizes is None else 'both'}."
        )
    if len(group_sizes) != 3 or min(group_sizes) < 0:
        raise ValueError(f"group_sizes is {list(group_sizes)}; give the numbers of many, medium and few-shot classes.")
    return np.repeat(np.arange(3), group_sizes)
