"""Calibration error against hand-made cases and scikit-learn's reliability curve."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from hf_sharp_prompt import metrics


KEYS = {"uniform": "expected_calibration_error", "quantile": "adaptive_expected_calibration_error"}


def compute(predictions, references, **options):
    return metrics.load("expected_calibration_error").compute(
        predictions=predictions, references=references, **options
    )


def of_two(confidences: list[float]) -> list[list[float]]:
    """Probabilities of two classes, the first predicted with these confidences of 0.5 and more."""
    return [[confidence, 1 - confidence] for confidence in confidences]


def test_by_hand():
    """Bins of width 0.2: {0.5, 0.55} one right, {0.7, 0.75, 0.8} all right, {0.9} wrong; two of equal mass: 2 of 3."""
    probabilities, labels = of_two([0.5, 0.55, 0.7, 0.75, 0.8, 0.9]), [0, 1, 0, 0, 0, 1]
    fixed = (2 * abs(1.05 / 2 - 1 / 2) + 3 * abs(2.25 / 3 - 1) + abs(0.9 - 0)) / 6
    adaptive = (3 * abs(1.75 / 3 - 2 / 3) + 3 * abs(2.45 / 3 - 2 / 3)) / 6
    assert compute(probabilities, labels, num_bins=5)[KEYS["uniform"]] == pytest.approx(fixed)
    assert compute(probabilities, labels, num_bins=2)[KEYS["quantile"]] == pytest.approx(adaptive)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
@pytest.mark.parametrize("strategy", KEYS)
def test_its_bins_are_scikit_learns(strategy, num_bins):
    random = np.random.default_rng(0)
    logits, labels = 2 * random.normal(size=(900, 5)), random.integers(5, size=900)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracies, confidences = calibration_curve(right, confidence, n_bins=num_bins, strategy=strategy)
    if strategy == "uniform":
        samples = np.histogram(confidence, bins=num_bins, range=(0, 1))[0]
    else:
        samples = np.full(num_bins, 900 // num_bins)
    expected = np.sum(samples[samples > 0] / 900 * np.abs(accuracies - confidences))
    assert compute(probabilities, labels, num_bins=num_bins)[KEYS[strategy]] == pytest.approx(expected, abs=1e-12)
    if num_bins == 15:
        assert compute(probabilities, labels)[KEYS[strategy]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("samples", [3, 15, 32, 100])
def test_adaptive_bins_hold_equally_many_samples(samples):
    """No two bins differ by more than one sample, also where their number does not divide the samples'."""
    confidence = np.sort(np.random.default_rng(samples).uniform(0.5, 1, samples))
    labels = np.random.default_rng(0).integers(2, size=samples)
    ends = [-(-bin * samples // 15) for bin in range(1, 15)]
    sizes = np.diff([0, *ends, samples])
    assert sizes.max() - sizes.min() <= 1
    bins = np.split(confidence - (labels == 0), ends)
    expected = sum(abs(gaps.sum()) for gaps in bins) / samples
    assert compute(of_two(confidence), labels)[KEYS["quantile"]] == pytest.approx(expected)


def test_calibrated_is_zero_and_surely_wrong_is_one():
    assert compute(of_two([0.75] * 4), [0, 0, 0, 1]) == dict.fromkeys(KEYS.values(), 0.0)
    assert compute(of_two([1.0] * 4), [1] * 4) == dict.fromkeys(KEYS.values(), 1.0)


def test_the_order_of_samples_does_not_matter():
    """Equal confidences share a bin, or two evaluations of one model would differ."""
    confidences, labels = np.array([0.6, 0.8, 0.8, 0.8, 0.8, 0.9]), np.array([0, 1, 1, 0, 0, 0])
    order = np.random.default_rng(0).permutation(6)
    assert compute(of_two(confidences), labels) == pytest.approx(compute(of_two(confidences[order]), labels[order]))


@pytest.mark.parametrize(
    ("probabilities", "labels", "options", "message"),
    [
        ([[0.5, 0.5], [3.0, -1.0]], [0, 1], {}, r"predictions\[1\] sums to 2 .* Apply softmax to logits"),
        (
            [[2.0, -1.0]],
            [0],
            {},
            r"predictions\[0\] sums to 1 with a smallest value of -1: these are no probabilities",
        ),
        ([[float("nan"), 1.0]], [0], {}, r"predictions\[0\] sums to nan"),
        ([[0.5, 0.5]], [2], {}, r"references\[0\] is 2, not one of the 2 classes from 0 to 1; give a prob"),
        ([[0.5, 0.5]], [0], {"num_bins": 0}, "num_bins is 0; at least one bin is needed"),
        ([0, 1], [0, 1], {}, "don't match the expected format"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, labels, options, message):
    """An error computed from logits looks like any other."""
    with pytest.raises(ValueError, match=message):
        compute(probabilities, labels, **options)
