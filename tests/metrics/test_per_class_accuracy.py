"""Accuracy by class against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from hf_sharp_prompt import metrics


def compute(predictions, references, **options):
    return metrics.load("per_class_accuracy").compute(predictions=predictions, references=references, **options)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_scikit_learn_computes(seed):
    random = np.random.default_rng(seed)
    references = random.choice(10, size=500, p=np.arange(1, 11) / 55)
    predictions = np.where(random.random(500) < 0.6, references, random.integers(10, size=500))
    computed = compute(predictions, references)
    assert computed["accuracy"] == pytest.approx(accuracy_score(references, predictions), abs=1e-15)
    assert computed["mean_per_class_accuracy"] == pytest.approx(balanced_accuracy_score(references, predictions))
    np.testing.assert_allclose(computed["per_class_accuracy"], recall_score(references, predictions, average=None))


def test_a_class_without_samples_has_no_accuracy_and_leaves_the_mean_alone():
    """As 0 it would pull the mean down, though nothing was classified wrongly."""
    computed = compute([0, 0, 3, 1], [0, 0, 3, 3], num_classes=5)
    np.testing.assert_array_equal(computed["per_class_accuracy"], [1, np.nan, np.nan, 0.5, np.nan])
    assert computed["mean_per_class_accuracy"] == 0.75
    with_nan = recall_score([0, 0, 3, 3], [0, 0, 3, 1], labels=range(5), average=None, zero_division=np.nan)
    np.testing.assert_array_equal(computed["per_class_accuracy"], with_nan)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([0, 3], [0, 1], r"predictions\[1\] is 3, not one of the 3 classes from 0 to 2; correct it or num_classes"),
        ([0, 1], [-100, 1], r"references\[0\] is -100, not one of the 3 classes"),
    ],
)
def test_a_label_out_of_range_is_named(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        compute(predictions, references, num_classes=3)
