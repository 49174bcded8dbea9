"""Accuracy of each class, their mean, and the accuracy over all samples."""

from __future__ import annotations

import evaluate
import numpy as np

from hf_sharp_prompt.metrics.classification import accuracy_by_group, check_labels, make_info


_DESCRIPTION = """\
The accuracy of each class (its recall), their mean, in which rare classes count as much as frequent ones, and the
accuracy over all samples.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (int, one per sample): Predicted classes.
    references (int, one per sample): True classes.
    num_classes (int, optional): How many classes there are. Default: up to the largest that occurs.

Returns:
    accuracy (float): Over all samples, in [0, 1].
    mean_per_class_accuracy (float): Over the classes that have samples.
    per_class_accuracy (list of float, one per class): nan for a class without samples.

Examples:
    >>> from hf_sharp_prompt import metrics
    >>> per_class_accuracy = metrics.load("per_class_accuracy")
    >>> per_class_accuracy.compute(predictions=[0, 0, 1, 0], references=[0, 0, 1, 1], num_classes=3)
    {'accuracy': 0.75, 'mean_per_class_accuracy': 0.75, 'per_class_accuracy': [1.0, 0.5, nan]}
"""

_CITATION = """\
@inproceedings{radford2021clip,
  title = {Learning Transferable Visual Models From Natural Language Supervision},
  author = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel and
    Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela and Clark, Jack and
    Krueger, Gretchen and Sutskever, Ilya},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  year = {2021},
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class PerClassAccuracy(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return make_info(_DESCRIPTION, _KWARGS_DESCRIPTION, _CITATION, ["https://arxiv.org/abs/2103.00020"])

    def _compute(
        self, predictions: np.ndarray, references: np.ndarray, num_classes: int | None = None
    ) -> dict[str, float | list[float]]:
        if num_classes is None:
            num_classes = int(max(predictions.max(), references.max())) + 1
        for name, labels in (("predictions", predictions), ("references", references)):
            check_labels(name, labels, num_classes, "correct it or num_classes")
        correct = predictions == references
        accuracies = accuracy_by_group(correct, references, num_classes)
        return {
            "accuracy": float(correct.mean()),
            "mean_per_class_accuracy": float(np.nanmean(accuracies)),
            "per_class_accuracy": accuracies.tolist(),
        }
