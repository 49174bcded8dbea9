"""How far a classifier's confidence is from its accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from hf_sharp_prompt.metrics.classification import check_labels, make_info


_DESCRIPTION = """\
Expected calibration error (ECE): samples are binned by confidence, the probability of the predicted class; the
distance between mean confidence and accuracy of the bins is averaged, weighted by their samples. In equal-width bins,
and adaptively, in bins of equal mass.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (float, samples × classes): Probabilities of the classes, which sum to 1; not logits: apply softmax.
    references (int, one per sample): True classes.
    num_bins (int, optional): Number of bins. Default: 15.

Returns:
    expected_calibration_error (float): In [0, 1], with bins of equal width, each with its upper edge.
    adaptive_expected_calibration_error (float): The same with bins of equally many samples, as far as equal
        confidences, which stay together, allow.

Examples:
    >>> from hf_sharp_prompt import metrics
    >>> expected_calibration_error = metrics.load("expected_calibration_error")
    >>> probabilities = [[0.75, 0.25], [0.25, 0.75], [1.0, 0.0], [0.0, 1.0]]
    >>> expected_calibration_error.compute(predictions=probabilities, references=[0, 0, 0, 1])
    {'expected_calibration_error': 0.125, 'adaptive_expected_calibration_error': 0.125}
"""

_CITATION = """\
@inproceedings{guo2017calibration,
  title = {On Calibration of Modern Neural Networks},
  author = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle = {Proceedings of the 34th International Conference on Machine Learning},
  year = {2017},
}
@inproceedings{nixon2019calibration,
  title = {Measuring Calibration in Deep Learning},
  author = {Nixon, Jeremy and Dusenberry, Michael W. and Zhang, Linchuan and Jerfel, Ghassen and Tran, Dustin},
  booktitle = {CVPR Workshops},
  year = {2019},
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ExpectedCalibrationError(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return make_info(
            _DESCRIPTION,
            _KWARGS_DESCRIPTION,
            _CITATION,
            ["https://arxiv.org/abs/1706.04599", "https://arxiv.org/abs/1904.01685"],
            format=None,
            predictions=datasets.List(datasets.Value("float64")),
        )

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[int], num_bins: int = 15
    ) -> dict[str, float]:
        probabilities, labels = np.asarray(predictions), np.asarray(references)
        _check(probabilities, labels, num_bins)
        confidence = probabilities.max(axis=1)
        correct = probabilities.argmax(axis=1) == labels
        equal_width = np.linspace(0, 1, num_bins + 1)[1:-1]
        # The k-th bin ends with the sample of rank ⌈k · samples / bins⌉, counted from 1.
        last = (np.arange(1, num_bins) * len(labels) - 1) // num_bins
        equal_mass = np.sort(confidence)[last]
        return {
            "expected_calibration_error": _calibration_error(confidence, correct, equal_width),
            "adaptive_expected_calibration_error": _calibration_error(confidence, correct, equal_mass),
        }


def _calibration_error(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> float:
    """Add up |Σ confidence − number correct| over the bins, and divide by the number of all samples.

    Each bin's own number of samples cancels. A confidence on an edge between two bins belongs to the lower one.
    """
    gaps = np.bincount(np.searchsorted(edges, confidence), weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(confidence))


def _check(probabilities: np.ndarray, labels: np.ndarray, num_bins: int) -> None:
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; at least one bin is needed.")
    sums = probabilities.sum(axis=1)
    # The tolerance lets half-precision probabilities pass.
    wrong = np.flatnonzero(~np.isclose(sums, 1, atol=1e-2) | (probabilities < 0).any(axis=1))
    if wrong.size:
        raise ValueError(
            f"predictions[{wrong[0]}] sums to {sums[wrong[0]]:.4g} with a smallest value of "
            f"{probabilities[wrong[0]].min():.4g}: these are no probabilities. Apply softmax to logits."
        )
    check_labels("references", labels, probabilities.shape[1], "give a probability for every class")
