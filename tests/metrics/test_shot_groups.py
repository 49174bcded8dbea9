"""Accuracy by number of training samples."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from hf_sharp_prompt import metrics


def compute(predictions, references, **options):
    return metrics.load("shot_groups").compute(predictions=predictions, references=references, **options)


@pytest.fixture
def cifar100() -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of 2000 test samples of 100 classes, worse the rarer the class is."""
    random = np.random.default_rng(0)
    references = random.permutation(np.arange(100).repeat(20))
    wrong = random.integers(100, size=2000)
    return np.where(random.random(2000) > references / 120, references, wrong), references


def test_class_ranges_as_of_cifar100_lt(cifar100):
    predictions, references = cifar100
    computed = compute(predictions, references, group_sizes=[36, 35, 29])
    assert computed["overall"] == pytest.approx(accuracy_score(references, predictions))
    for group, low, high in (("many", 0, 36), ("medium", 36, 71), ("few", 71, 100)):
        among = (references >= low) & (references < high)
        assert computed[group] == pytest.approx(accuracy_score(references[among], predictions[among]))
    assert computed["many"] > computed["medium"] > computed["few"]


def test_counts_give_the_same_whatever_the_order_of_the_classes(cifar100):
    """iNaturalist's classes are not sorted by frequency."""
    predictions, references = cifar100
    counts = (500 * 100 ** (-np.arange(100) / 99)).astype(int)
    sizes = [int((counts > 100).sum()), int(((counts <= 100) & (counts >= 20)).sum()), int((counts < 20).sum())]
    by_range = compute(predictions, references, group_sizes=sizes)
    order = np.random.default_rng(1).permutation(100)
    assert compute(order[predictions], order[references], train_counts=counts[np.argsort(order)]) == by_range


def test_the_thresholds_belong_to_medium():
    """More than 100 is many, 20 to 100 medium, fewer than 20 few."""
    counts = [101, 100, 20, 19]
    for label, group in enumerate(["many", "medium", "medium", "few"]):
        computed = compute([label], [label], train_counts=counts)
        assert [name for name in ("many", "medium", "few") if computed[name] == 1] == [group]


def test_a_group_without_samples_has_no_accuracy():
    computed = compute([0, 1], [0, 0], group_sizes=[2, 1, 0])
    assert (computed["overall"], computed["many"]) == (0.5, 0.5)
    assert np.isnan([computed["medium"], computed["few"]]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give either group_sizes, .* or train_counts, .*; got neither"),
        ({"group_sizes": [1, 1, 1], "train_counts": [200, 50, 5]}, "got both"),
        ({"group_sizes": [2, 1]}, r"group_sizes is \[2, 1\]; give the numbers of many, medium and few-shot classes"),
        ({"group_sizes": [1, 1, 0]}, r"references\[2\] is 2, not one of the 2 classes from 0 to 1; make group_sizes"),
        ({"train_counts": [200, 50]}, r"references\[2\] is 2, not one of .*; make train_counts match"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compute([0, 1, 1], [0, 1, 2], **options)


def test_a_prediction_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"predictions\[1\] is -1, not one of .*; make group_sizes match"):
        compute([0, -1, 1], [0, 1, 2], group_sizes=[1, 1, 1])
