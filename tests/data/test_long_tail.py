"""Long-tailed subsets have the published counts and images, and say what is wrong with those that cannot be had."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image

from hf_sharp_prompt.data import (
    ImageFeatures,
    class_counts,
    exponential_counts,
    labels_of,
    pareto_counts,
    subsample,
    tail_classes,
)


NAMES = ["ant", "bee", "cat", "dog"]


def rows_of(labels: list[int]) -> Dataset:
    """A data set whose images are no images: reading one fails."""
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    images = [{"bytes": b"row %d" % row, "path": None} for row in range(len(labels))]
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


def read(dataset: Dataset) -> list[bytes]:
    return [image["bytes"] for image in dataset.cast_column("image", Image(decode=False))["image"]]


@pytest.fixture
def labels() -> list[int]:
    return np.random.RandomState(3).permutation(np.repeat(range(4), 20)).tolist()


def test_the_exponential_profile_is_cifar_lt_s():
    """Otherwise "CIFAR100-LT, IF 100" is another data set than everyone's."""
    counts = exponential_counts(100, largest=500, imbalance=100)
    assert counts == [int(500 * 0.01 ** (c / 99.0)) for c in range(100)]
    assert (counts[0], counts[-1], sum(counts)) == (500, 5, 10847)
    assert sum(exponential_counts(10, largest=5000, imbalance=100)) == 12406


@pytest.mark.parametrize(("num_classes", "largest"), [(10, 5000), (100, 500), (200, 500), (1000, 1280)])
@pytest.mark.parametrize("imbalance", [1, 10, 20, 50, 100, 200])
def test_rounding_is_that_of_cifar_lt_s_code(num_classes, largest, imbalance):
    factor = 1 / imbalance
    theirs = [int(largest * factor ** (c / (num_classes - 1.0))) for c in range(num_classes)]
    assert exponential_counts(num_classes, largest, imbalance) == theirs


@pytest.mark.parametrize("largest", [49, 98, 103, 107])
def test_the_last_sample_is_not_rounded_away(largest):
    """In floats 49 times 1/49 is below 1, and the rarest class would be empty."""
    assert exponential_counts(5, largest, imbalance=largest)[-1] == 1


def test_the_pareto_profile_is_close_to_imagenet_lt():
    """Its images were one random draw; by count of classes: 385 to 391 above 100, 130 to 136 below 20."""
    counts = np.asarray(pareto_counts(1000))
    assert (counts[0], counts[-1]) == (1280, 5)
    assert (np.diff(counts) <= 0).all()
    assert counts.sum() == pytest.approx(115846, rel=0.06)
    assert (counts > 100).sum() == pytest.approx(388, rel=0.06)
    assert (counts < 20).sum() == pytest.approx(133, rel=0.06)


def test_a_larger_power_makes_the_tail_lighter():
    assert sum(pareto_counts(50, alpha=2)) < sum(pareto_counts(50, alpha=6)) < sum(pareto_counts(50, alpha=20))


def test_counting_reads_no_image(labels):
    """Counting the classes of iNaturalist must not decode 437,000 images."""
    assert class_counts(rows_of(labels)) == [20] * 4
    assert class_counts(rows_of([1, 1, 3])) == [0, 2, 0, 1]
    assert class_counts(rows_of([])) == [0] * 4


def test_counting_sees_the_rows_that_were_selected_and_no_transform(labels):
    dataset = rows_of(labels).select(range(10)).with_transform(lambda rows: {"pixel_values": rows["image"]})
    assert class_counts(dataset) == np.bincount(labels[:10], minlength=4).tolist()
    renamed = rows_of(labels).rename_column("label", "species")
    assert class_counts(renamed, label_column="species") == [20] * 4


@pytest.mark.parametrize("missing", [-1, None])
def test_samples_without_a_label_are_refused(missing):
    """The Hub's test splits often have none."""
    with pytest.raises(ValueError, match="2 of 4 samples have no label in column 'label'"):
        class_counts(rows_of([0, missing, 1, missing]))


def cifar_lt(labels: list[int], counts: list[int], seed: int) -> list[int]:
    """The rows that CIFAR-LT's code keeps, from its description: shuffle each class by numpy's global generator."""
    state = np.random.get_state()
    np.random.seed(seed)
    kept = []
    for label, count in enumerate(counts):
        members = np.asarray([row for row, of_row in enumerate(labels) if of_row == label])
        np.random.shuffle(members)
        kept += members[:count].tolist()
    np.random.set_state(state)
    return kept


@pytest.mark.parametrize("seed", [0, 1])
def test_the_images_are_those_of_cifar_lt_s_code(labels, seed):
    counts = exponential_counts(4, largest=20, imbalance=10)
    kept = subsample(rows_of(labels), counts, seed=seed)
    assert class_counts(kept) == counts == [20, 9, 4, 2]
    assert read(kept) == [b"row %d" % row for row in sorted(cifar_lt(labels, counts, seed))]


def test_drawing_moves_no_global_random_numbers(labels):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    subsample(rows_of(labels), [3, 2, 2, 1])
    assert (np.random.get_state()[1] == before).all()


def test_a_stronger_imbalance_keeps_a_part_of_what_a_weaker_one_keeps(labels):
    """So that curves over the imbalance factor are of nested training sets."""
    weak, strong = (
        subsample(rows_of(labels), exponential_counts(4, largest=20, imbalance=imbalance)) for imbalance in (2, 20)
    )
    assert set(read(strong)) < set(read(weak))


def test_another_seed_draws_other_images(labels):
    first, second = (read(subsample(rows_of(labels), [5] * 4, seed=seed)) for seed in (0, 1))
    assert first != second


def test_the_order_says_which_class_is_head_and_which_tail(labels):
    kept = subsample(rows_of(labels), [20, 9, 4, 2], order=[2, 0, 3, 1])
    assert class_counts(kept) == [9, 2, 20, 4]
    assert class_counts(subsample(kept, class_counts(kept))) == class_counts(kept), "the data set's own counts"


@pytest.mark.parametrize(
    ("counts", "order", "message"),
    [
        ([9, 4, 2], None, "The dataset has 4 classes, but counts has 3"),
        ([9, 4, 2, 0], None, "Class 'dog' would be left without samples"),
        ([21, 9, 4, 2], None, "Class 'ant' has 20 samples, fewer than the 21 to keep; lower the largest"),
        ([9, 4, 2, 1], [0, 1, 2, 2], "order must hold each label from 0 to 3 once"),
        ([9, 4, 2, 1], [0, 1, 2], "order must hold each label from 0 to 3 once"),
    ],
)
def test_what_cannot_be_drawn_is_said(labels, counts, order, message):
    """Otherwise a class is silently smaller than the table's caption says, or missing."""
    with pytest.raises(ValueError, match=message):
        subsample(rows_of(labels), counts, order)


@pytest.mark.parametrize(
    ("profile", "arguments", "message"),
    [
        (exponential_counts, (10, 50, 100), "smallest class would have none; lower the imbalance to at most 50"),
        (exponential_counts, (10, 500, 0.01), r"imbalance must be at least 1, .*got 0\.01"),
        (exponential_counts, (1, 500, 100), "at least two classes, got 1"),
        (pareto_counts, (1,), "at least two classes, got 1"),
        (pareto_counts, (10, 5, 50), "1 <= smallest <= largest must hold, got smallest=50 and largest=5"),
        (pareto_counts, (10, 50, 0), "1 <= smallest <= largest"),
        (pareto_counts, (10, 50, 5, 0), "alpha must be positive"),
    ],
)
def test_profiles_without_meaning_are_refused(profile, arguments, message):
    with pytest.raises(ValueError, match=message):
        profile(*arguments)


def test_tail_classes_are_those_below_the_threshold():
    """The paper's code: fewer than η samples, 20 by default; on CIFAR100-LT the last 30 of 100 classes."""
    assert tail_classes([100, 20, 19, 3]) == [2, 3]
    assert tail_classes([100, 20, 19, 3], threshold=4) == [3]
    assert tail_classes(exponential_counts(100, 500, 100)) == list(range(70, 100))
    with pytest.raises(ValueError, match="No class has fewer than 20 samples, the rarest has 20"):
        tail_classes([100, 20])


def test_labels_are_found_in_whatever_the_trainer_is_given():
    """Columns of numbers without names, and features: what training sees decides what the loss knows of it."""
    numbers = Dataset.from_dict({"pixel_values": [0.0, 1.0, 2.0], "labels": [2, 0, 2]})
    assert labels_of(numbers).tolist() == [2, 0, 2]
    assert class_counts(numbers) == [1, 0, 2]
    features = ImageFeatures(torch.zeros(3, 1, 4), torch.tensor([2, 0, 2]), ["a", "b", "c", "d"])
    assert class_counts(features) == [1, 0, 2, 0], "as many as there are names"
    with pytest.raises(ValueError, match=r"no column 'label' or 'labels'; there are pixel_values \(Value\), species"):
        labels_of(numbers.rename_column("labels", "species"))
    with pytest.raises(ValueError, match="labels of a list cannot be read"):
        labels_of([{"labels": 1}])
