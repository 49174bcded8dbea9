"""Intersection over union against a case by hand, a slow implementation and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from hf_sharp_prompt import metrics
from hf_sharp_prompt.metrics.segmentation import count_pixels, iou_of_counts


def compute(predictions, references, num_classes):
    maps = {"predictions": predictions, "references": references}
    return metrics.load("mean_iou").compute(
        **{k: [m.tolist() for m in v] for k, v in maps.items()}, num_classes=num_classes
    )


def test_a_case_by_hand():
    """Three pixels of class 0, of which two are found, and one pixel of none too many; -100 is left out."""
    truth = torch.tensor([[0, 0, 0, 1], [-1, -1, 1, -100]])
    found = torch.tensor([[0, 0, -1, 1], [-1, 0, 0, 1]])
    computed = compute([found], [truth], 3)
    assert computed["per_class_iou"][:2] == [2 / 5, 1 / 2]
    assert np.isnan(computed["per_class_iou"][2])  # neither true nor predicted
    assert computed["mean_iou"] == (2 / 5 + 1 / 2) / 2
    assert computed["background_iou"] == 1 / 3
    assert computed["pixel_accuracy"] == 4 / 7


def slow_mean_iou(predictions, references, num_classes):
    pairs = [
        (p, t)
        for predicted, true in zip(predictions, references)
        for p, t in zip(predicted.flatten().tolist(), true.flatten().tolist())
        if t != -100
    ]
    found = []
    for c in range(num_classes):
        union = sum(p == c or t == c for p, t in pairs)
        found.append(sum(p == c and t == c for p, t in pairs) / union if union else float("nan"))
    return np.nanmean(found), sum(p == t for p, t in pairs) / len(pairs), found


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_counting_pixel_by_pixel_and_torchmetrics_give(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(9, 7), (5, 12), (8, 8)]
    truths = [torch.randint(-1, 6, shape, generator=generator) for shape in shapes]
    truths[0][:3] = -100
    found = [torch.where(torch.rand(each.shape, generator=generator) < 0.6, each.clamp(min=-1), 2) for each in truths]
    computed = compute(found, truths, 6)
    mean, accuracy, per_class = slow_mean_iou(found, truths, 6)
    assert computed["mean_iou"] == pytest.approx(mean, abs=1e-15)
    assert computed["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-15)
    np.testing.assert_allclose(computed["per_class_iou"], per_class)
    flat = [torch.cat([each.flatten() for each in maps]) for maps in (found, truths)]
    counted = flat[1] != -100
    theirs = multiclass_jaccard_index(flat[0][counted] + 1, flat[1][counted] + 1, num_classes=7, average=None)
    np.testing.assert_allclose(computed["per_class_iou"], theirs[1:], rtol=1e-6)


def test_counts_add_up_over_batches_and_images():
    """An average of the images' own scores would weigh small objects as much as large ones."""
    truth, found = (torch.randint(-1, 4, (6, 10, 10)) for _ in range(2))
    counts = torch.stack([count_pixels(*pair, 4) for pair in zip(found, truth)])
    at_once = count_pixels(found.flatten()[None], truth.flatten()[None], 4)
    assert torch.equal(counts.sum(0), at_once)
    np.testing.assert_array_equal(iou_of_counts(counts)[0], iou_of_counts(at_once[None])[0])


def test_logits_are_scaled_to_each_images_own_size():
    """Padding counts neither as truth nor as prediction."""
    logits = torch.full((2, 2, 2, 2), -1.0)
    logits[0, 1] = logits[1, 0] = 1
    labels = torch.full((2, 4, 6), -100)
    labels[0, :4, :6], labels[1, :3, :2] = 1, 0
    counts = metrics.count_pixels_of_logits(logits, labels, torch.tensor([[4, 6], [3, 2]]))
    assert counts.tolist() == [[[0, 24, 0], [0, 24, 0], [0, 24, 0]], [[6, 0, 0], [6, 0, 0], [6, 0, 0]]]
    nothing = metrics.count_pixels_of_logits(-logits.abs(), labels, background=True)
    assert nothing[:, 1].tolist() == [[0, 0, 24], [0, 0, 6]]
    assert metrics.segmentation_scores(counts)["mean_iou"] == 1


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 3), "scale the prediction to the size of the labels"),
        (torch.full((1, 2), 3), torch.zeros(1, 2), "predictions have the class 3, not one of the 3 classes"),
        (torch.zeros(1, 2), torch.full((1, 2), -2), "labels have the class -2"),
    ],
)
def test_what_does_not_fit_is_refused(found, truth, message):
    with pytest.raises(ValueError, match=message):
        count_pixels(found.long(), truth.long(), 3)
