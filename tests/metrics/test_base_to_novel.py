"""Base and novel accuracy and their harmonic mean."""

import pytest

from hf_sharp_prompt import metrics


def compute(predictions, references, halves):
    return metrics.load("base_to_novel").compute(predictions=predictions, references=references, halves=halves)


def test_by_hand():
    """3 of 4 base and 1 of 4 novel images: 2 · 0.75 · 0.25 / (0.75 + 0.25) = 0.375."""
    predictions, references = [0, 1, 2, 0, 0, 1, 1, 1], [0, 1, 2, 2, 0, 0, 2, 2]
    computed = compute(predictions, references, ["base"] * 4 + ["novel"] * 4)
    assert computed == {"base": 0.75, "novel": 0.25, "hm": pytest.approx(0.375)}


@pytest.mark.parametrize("row", [(82.69, 63.22, 71.66), (80.47, 71.69, 75.83), (82.28, 75.14, 78.55)])
def test_the_published_means_are_reproduced(row):
    """CoOp, CoCoOp and MaPLe over 11 data sets, as if each figure were measured on 10,000 images."""
    base, novel, hm = row
    predictions = [0 if index < 100 * accuracy else 1 for accuracy in (base, novel) for index in range(10_000)]
    computed = compute(predictions, [0] * 20_000, ["base"] * 10_000 + ["novel"] * 10_000)
    assert {key: round(100 * value, 2) for key, value in computed.items()} == {"base": base, "novel": novel, "hm": hm}


@pytest.mark.parametrize("predictions", [[1, 0], [0, 1], [1, 1]])
def test_nothing_right_in_a_half_is_zero_and_no_error(predictions):
    """At the start of training it happens; the run must go on."""
    assert compute(predictions, [0, 0], ["base", "novel"])["hm"] == 0


def test_batches_in_any_order_count_alike():
    metric = metrics.load("base_to_novel")
    metric.add_batch(predictions=[0], references=[1], halves=["novel"])
    metric.add_batch(predictions=[1, 0], references=[1, 1], halves=["base", "base"])
    metric.add_batch(predictions=[1], references=[1], halves=["novel"])
    assert metric.compute() == {"base": 0.5, "novel": 0.5, "hm": 0.5}


@pytest.mark.parametrize(
    ("halves", "message"),
    [
        (["base", "new"], "halves has 'new'; say 'base' or 'novel' for each sample"),
        (["base", "base"], "halves has no 'novel'; add samples of novel classes"),
        (["base"], r"Mismatch in the number of predictions \(2\) and halves \(1\)"),
    ],
)
def test_halves_that_say_too_little_are_refused(halves, message):
    with pytest.raises(ValueError, match=message):
        compute([0, 1], [0, 1], halves)
