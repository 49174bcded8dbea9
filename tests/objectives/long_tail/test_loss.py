"""Losses for long tails are their papers' equations, add up over micro-batches, and leave balanced data alone."""

import math

import pytest
import torch
from objectives.long_tail.cases import COUNTS, slow_weights
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.objectives.long_tail import (
    GCL,
    LDAM,
    BalancedSoftmax,
    CrossEntropy,
    LogitAdjustment,
    LongTailLoss,
    effective_number_weights,
)


LOSSES = [CrossEntropy, LDAM, GCL, LogitAdjustment, BalancedSoftmax]


def slow_cross_entropy(rows: list[list[float]], labels: list[int], weights: list[float]) -> float:
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        total -= weights[label] * (row[label] - math.log(sum(math.exp(z) for z in row)))
    return total / len(labels)


def slow_ldam(cosine: float, c: int, y: int, xi: float) -> float:
    margin = 0.5 * (COUNTS[c] / min(COUNTS)) ** (-1 / 4)
    return 30 * (cosine - margin if c == y else cosine)


def slow_gcl(cosine: float, c: int, y: int, xi: float) -> float:
    cloud = (math.log(max(COUNTS)) - math.log(COUNTS[c])) / (math.log(max(COUNTS)) - math.log(min(COUNTS)))
    return 25 * (cosine - abs(xi) * cloud - (0.1 if c == y else 0))


def slow_adjustment(cosine: float, c: int, y: int, xi: float) -> float:
    return 10 * cosine + 1.5 * math.log(COUNTS[c] / sum(COUNTS))


def slow_balanced(cosine: float, c: int, y: int, xi: float) -> float:
    return 10 * cosine + math.log(COUNTS[c])


@pytest.mark.parametrize("reweighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "scale", "slow"),
    [
        (CrossEntropy(COUNTS), 10, lambda cosine, c, y, xi: 10 * cosine),
        (LDAM(COUNTS), 30, slow_ldam),
        (GCL(COUNTS), 25, slow_gcl),
        (LogitAdjustment(COUNTS, tau=1.5), 10, slow_adjustment),
        (BalancedSoftmax(COUNTS), 10, slow_balanced),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LongTailLoss) else "",
)
def test_the_loss_is_its_equation_written_out(loss, scale, slow, reweighted, labels):
    """Otherwise results under a paper's name are not that paper's."""
    cosines = 2 * torch.rand(6, 4, dtype=torch.float64) - 1
    loss.weights = effective_number_weights(COUNTS, 0.99) if reweighted else None
    weights = slow_weights(COUNTS, 0.99) if reweighted else [1.0] * 4
    torch.manual_seed(5)
    xi = (torch.randn(6, 4, dtype=torch.float64) / 3).clamp(-1, 1).tolist()
    rows = [
        [slow(cosine, c, y, noise[c]) for c, cosine in enumerate(row)]
        for row, y, noise in zip(cosines.tolist(), labels.tolist(), xi, strict=True)
    ]
    torch.manual_seed(5)
    found = loss(scale * cosines, labels).item()
    assert found == pytest.approx(slow_cross_entropy(rows, labels.tolist(), weights), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_the_loss_s(loss, logits, labels):
    """Otherwise training follows something else than what it reports."""
    loss = loss(COUNTS)
    loss.weights = effective_number_weights(COUNTS)

    def evaluate(logits: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)  # the same noise in every evaluation
        return loss(logits, labels)

    assert torch.autograd.gradcheck(evaluate, logits.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_micro_batches_add_up(loss, logits, labels):
    """Otherwise accumulating gradients, or using more GPUs, changes what is minimised once classes are re-weighted."""
    loss = loss(COUNTS).train()
    loss.weights = effective_number_weights(COUNTS)
    if isinstance(loss, GCL):
        loss.cloud_sizes = torch.zeros_like(loss.cloud_sizes)  # noise is drawn again for each micro-batch
    whole = loss(logits, labels)
    parts = loss(logits[:1], labels[:1], 6) + loss(logits[1:], labels[1:], torch.tensor(6))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss(logits, labels, num_items_in_batch=12), whole / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_samples_that_are_masked_out_do_not_count(loss, logits, labels):
    """Otherwise imbsam, which masks head and tail in turn, sees the wrong losses; or indexes out of bounds."""
    loss = loss(COUNTS)
    loss.weights = effective_number_weights(COUNTS)
    tail = labels >= 2
    torch.manual_seed(1)
    g_tail = loss(logits, labels.masked_fill(~tail, -100), 6)
    torch.manual_seed(1)
    g_head = loss(logits, labels.masked_fill(tail, -100), 6)
    torch.manual_seed(1)
    torch.testing.assert_close(g_head + g_tail, loss(logits, labels))
    assert loss(logits, torch.full_like(labels, -100)).item() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_in_evaluation_it_is_plain_cross_entropy(loss, logits, labels):
    """Otherwise eval_loss is noisy, and cannot be compared between methods."""
    loss = loss(COUNTS).eval()
    loss.weights = effective_number_weights(COUNTS)
    assert loss(logits, labels) == cross_entropy(logits, labels)


@pytest.mark.parametrize("loss", [CrossEntropy, LogitAdjustment, BalancedSoftmax])
def test_on_balanced_data_it_is_cross_entropy(loss, logits, labels):
    """Otherwise a method for long tails changes what it has no reason to."""
    torch.testing.assert_close(loss([7] * 4)(logits, labels), cross_entropy(logits, labels))


def test_on_balanced_data_margins_are_equal_and_clouds_gone(logits, labels):
    """Equal counts must not divide by zero in GCL's normalisation."""
    true = torch.eye(4)[labels]
    margin_only = cross_entropy(logits - 30 * 0.5 * true, labels)
    torch.testing.assert_close(LDAM([7] * 4)(logits, labels), margin_only)
    margin_only = cross_entropy(logits - 25 * 0.1 * true, labels)
    torch.testing.assert_close(GCL([7] * 4)(logits, labels), margin_only)


def test_in_half_precision_the_loss_is_computed_in_single():
    """Sums of many small losses and log-frequencies would lose their digits."""
    logits, labels = torch.randn(3, 4).bfloat16(), torch.tensor([0, 1, 2])
    for loss in LOSSES:
        assert loss(COUNTS)(logits, labels).dtype == torch.float32


@pytest.mark.parametrize("loss", LOSSES)
def test_counts_that_do_not_fit_are_refused(loss, logits, labels):
    with pytest.raises(ValueError, match="The model has 4 classes, but the loss has the counts of 3"):
        loss([5, 4, 3])(logits, labels)
    with pytest.raises(ValueError, match=r"Classes \[1, 3\] have no training samples"):
        loss([5, 0, 3, 0])
