"""Losses for long tails are their papers' equations, add up over micro-batches, and leave balanced data alone."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.objectives.long_tail import (
    GCL,
    LDAM,
    BalancedSoftmax,
    CrossEntropy,
    LogitAdjustment,
    LongTailLoss,
    effective_number_weights,
    mean_weight,
    weighted_cross_entropy,
)


COUNTS = [300, 50, 8, 2]
LOSSES = [CrossEntropy, LDAM, GCL, LogitAdjustment, BalancedSoftmax]


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(6, 4, dtype=torch.float64)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 3, 1, 0, 2, 3])


def slow_cross_entropy(rows: list[list[float]], labels: list[int], weights: list[float]) -> float:
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        total -= weights[label] * (row[label] - math.log(sum(math.exp(z) for z in row)))
    return total / len(labels)


def slow_weights(counts: list[int], beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [len(counts) * w / sum(raw) for w in raw]


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
        loss.cloud_sizes = torch.zeros_like(loss.cloud_sizes)  # noise is drawn anew for each micro-batch
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


def test_gcl_leaves_the_commonest_class_without_noise_and_never_raises_a_logit(labels):
    """The clouds are what pushes rare classes away from others: only downwards, and not for the head."""
    zeros = torch.zeros(len(labels), 4)
    adjusted = GCL(COUNTS, margin=0).adjust(zeros, labels)
    assert (adjusted[:, 0] == 0).all()
    assert (adjusted[:, 1:] < 0).all()
    assert (adjusted >= -25).all()


def test_gcl_s_noise_has_a_standard_deviation_of_a_third():
    """A variance of a third, as the notation N(0, 1/3) may be read, would be clouds 1.5 times the published ones."""
    noise = GCL([2, 1], margin=0, scale=1).adjust(torch.zeros(20000, 2), torch.zeros(20000, dtype=torch.long))[:, 1]
    assert noise.abs().mean().item() == pytest.approx(math.sqrt(2 / math.pi) / 3, rel=0.02)
    assert noise.abs().max() <= 1


def test_gcl_sees_the_same_noise_when_the_generator_is_restored(logits, labels):
    """A rule's evaluations within one step restore it; else they would differ by the noise, not by the weights."""
    loss = GCL(COUNTS)
    state = torch.get_rng_state()
    first = loss(logits, labels)
    assert loss(logits, labels) != first
    torch.set_rng_state(state)
    assert loss(logits, labels) == first


def test_in_half_precision_the_loss_is_computed_in_single():
    """Sums of many small losses and log-frequencies would lose their digits."""
    logits, labels = torch.randn(3, 4).bfloat16(), torch.tensor([0, 1, 2])
    for loss in LOSSES:
        assert loss(COUNTS)(logits, labels).dtype == torch.float32


@pytest.mark.parametrize("beta", [0.9, 0.9998, 0.9999])
def test_weights_are_those_of_the_effective_number(beta):
    weights = effective_number_weights(COUNTS, beta)
    assert weights.tolist() == pytest.approx(slow_weights(COUNTS, beta), rel=1e-9)
    assert weights.sum().item() == pytest.approx(4)


def test_weights_go_from_equal_to_inverse_frequency():
    torch.testing.assert_close(effective_number_weights(COUNTS, 0), torch.ones(4, dtype=torch.float64))
    nearly = effective_number_weights(COUNTS, 1 - 1e-9) * torch.tensor(COUNTS)
    torch.testing.assert_close(nearly / nearly[0], torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)


def test_dividing_by_the_mean_weight_gives_steps_of_the_published_size():
    """Over the whole training set torch's weighted mean, which the released codes take, is that very loss."""
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    logits = torch.randn(len(labels), 4, dtype=torch.float64)
    weights = effective_number_weights(COUNTS)
    relative = weights / mean_weight(weights, COUNTS)
    ours = weighted_cross_entropy(logits, labels, relative)
    torch.testing.assert_close(ours, cross_entropy(logits, labels, weight=weights))


@pytest.mark.parametrize("loss", LOSSES)
def test_counts_that_do_not_fit_are_refused(loss, logits, labels):
    with pytest.raises(ValueError, match="The model has 4 classes, but the loss has the counts of 3"):
        loss([5, 4, 3])(logits, labels)
    with pytest.raises(ValueError, match=r"Classes \[1, 3\] have no training samples"):
        loss([5, 0, 3, 0])


def test_a_beta_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"beta must be at least 0 and below 1, got 1\.0"):
        effective_number_weights(COUNTS, beta=1.0)
