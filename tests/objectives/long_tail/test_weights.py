"""Class weights of the effective number are those of the paper, in steps of the published size."""

import pytest
import torch
from objectives.long_tail.cases import COUNTS, slow_weights
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.objectives.long_tail import effective_number_weights, mean_weight, weighted_cross_entropy


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


def test_a_beta_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"beta must be at least 0 and below 1, got 1\.0"):
        effective_number_weights(COUNTS, beta=1.0)
