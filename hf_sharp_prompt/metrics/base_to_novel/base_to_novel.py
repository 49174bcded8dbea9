"""Base-to-novel generalisation: accuracy on both halves of the classes and their harmonic mean."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import harmonic_mean

import datasets
import evaluate
import numpy as np

from hf_sharp_prompt.metrics.classification import make_info


_DESCRIPTION = """\
Accuracy on the base classes, which were learned from, accuracy on the novel ones, and their harmonic mean (HM), which
is high only if both are.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (int, one per sample): Predicted classes.
    references (int, one per sample): True classes. The protocol chooses among a half's own names, so both halves may
        count their classes from 0.
    halves (str, one per sample): "base" or "novel": the half that the sample belongs to.

Returns:
    base, novel (float): Accuracy in [0, 1] on each half.
    hm (float): Their harmonic mean, 2 · base · novel / (base + novel); 0 if either is 0.

Examples:
    >>> from hf_sharp_prompt import metrics
    >>> base_to_novel = metrics.load("base_to_novel")
    >>> base_to_novel.add_batch(predictions=[0, 1, 1, 1], references=[0, 1, 1, 0], halves=["base"] * 4)
    >>> base_to_novel.add_batch(predictions=[0, 1], references=[1, 1], halves=["novel"] * 2)
    >>> base_to_novel.compute()
    {'base': 0.75, 'novel': 0.5, 'hm': 0.6}
"""

_CITATION = """\
@inproceedings{zhou2022cocoop,
  title = {Conditional Prompt Learning for Vision-Language Models},
  author = {Zhou, Kaiyang and Yang, Jingkang and Loy, Chen Change and Liu, Ziwei},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022},
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class BaseToNovel(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return make_info(
            _DESCRIPTION,
            _KWARGS_DESCRIPTION,
            _CITATION,
            ["https://arxiv.org/abs/2203.05557"],
            halves=datasets.Value("string"),
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray, halves: Sequence[str]) -> dict[str, float]:
        if unknown := sorted({str(half) for half in halves} - {"base", "novel"}):
            raise ValueError(f"halves has {unknown[0]!r}; say 'base' or 'novel' for each sample.")
        correct = predictions == references
        accuracies = {}
        for half in ("base", "novel"):
            if half not in halves:
                raise ValueError(f"halves has no {half!r}; add samples of {half} classes to have a harmonic mean.")
            accuracies[half] = float(correct[np.asarray(halves) == half].mean())
        return accuracies | {"hm": float(harmonic_mean(accuracies.values()))}
