"""What SAF remembers of each sample; its term is tested in test_saf_and_mesa.py."""

import pytest
import torch
from objectives.small_loop import divergence
from torch import nn

from hf_sharp_prompt.objectives import Batch, Objective, create


def run(objective: Objective, epoch: int, rows: list[int], logits: torch.Tensor, **batch) -> torch.Tensor:
    index = torch.tensor(rows)
    objective.epoch = epoch
    objective.begin_step(nn.Identity())
    term = objective.term(Batch(nn.Identity(), {}, logits[: len(rows)], index=index, **batch))
    objective.end_step(nn.Identity())
    return term


def test_samples_that_were_not_seen_then_add_nothing():
    """Otherwise a sampler that leaves some out, or a larger data set on resuming, compares with noise."""
    saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), torch.randn(4, 3, dtype=torch.float64)
    assert run(saf, 0, [0, 5], z) == 0
    other = torch.randn(4, 3, dtype=torch.float64)
    expected = (divergence(z[0], other[0], 5) + divergence(z[1], other[3], 5)) / 4
    assert float(run(saf, 1, [0, 9, 7, 5], other)) == pytest.approx(expected, abs=1e-12)
    assert run(saf, 2, [3], z) == 0


def test_of_a_sample_that_comes_twice_the_first_time_counts():
    """As with samplers that draw with replacement: in one batch, or in two of an epoch."""
    saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), torch.randn(4, 3, dtype=torch.float64)
    run(saf, 0, [2, 2, 1], z)
    run(saf, 0, [1, 2], torch.zeros(4, 3, dtype=torch.float64))
    assert torch.equal(saf.state["logits"][0, [2, 1]], z[[0, 2]])


def test_ignored_samples_are_neither_counted_nor_remembered():
    """As those that Accelerate repeats to fill the last share."""
    saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), torch.randn(4, 3, dtype=torch.float64)
    run(saf, 0, [0, 1], z, labels=torch.tensor([2, -100]))
    assert saf.state["epochs"].tolist() == [[0]]
    term = run(saf, 1, [0, 1], z.flip(0), labels=torch.tensor([2, -100]))
    assert float(term) == pytest.approx(divergence(z[0], z[3], 5), abs=1e-12)
    assert run(saf, 2, [0], z, labels=torch.tensor([-100])) == 0


def test_logits_of_earlier_epochs_than_needed_are_not_kept():
    """Memory is what SAF costs."""
    saf = create("saf")
    run(saf, 2, [0, 1], torch.zeros(4, 3))
    assert saf.state == {}
    run(saf, 3, [0, 1], torch.zeros(4, 3))
    assert saf.state["logits"].shape == (3, 2, 3)


def test_without_an_index_it_says_what_is_missing():
    saf = create("saf")
    saf.begin_step(nn.Identity())
    with pytest.raises(ValueError, match="saf remembers each sample's logits: give the Batch its samples' index"):
        saf.term(Batch(nn.Identity(), {}, torch.zeros(2, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_single_precision(dtype):
    """Otherwise the term of two nearly equal distributions is rounding noise."""
    saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), 10 * torch.randn(4, 3).to(dtype)
    other = (z.float() + 1).to(dtype) + z.flip(0) / 64
    run(saf, 0, [0, 1, 2, 3], z)
    expected = sum(divergence(p, q, 5) for p, q in zip(z.double(), other.double(), strict=True)) / 4
    assert float(run(saf, 1, [0, 1, 2, 3], other)) == pytest.approx(expected, rel=1e-3)
