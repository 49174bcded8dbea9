"""GCL's clouds of noise; that its loss is its equation is tested in test_loss.py."""

import math

import pytest
import torch
from objectives.long_tail.cases import COUNTS

from hf_sharp_prompt.objectives.long_tail import GCL


def test_it_leaves_the_commonest_class_without_noise_and_never_raises_a_logit(labels):
    """The clouds are what pushes rare classes away from others: only downwards, and not for the head."""
    zeros = torch.zeros(len(labels), 4)
    adjusted = GCL(COUNTS, margin=0).adjust(zeros, labels)
    assert (adjusted[:, 0] == 0).all()
    assert (adjusted[:, 1:] < 0).all()
    assert (adjusted >= -25).all()


def test_its_noise_has_a_standard_deviation_of_a_third():
    """A variance of a third, as the notation N(0, 1/3) may be read, would be clouds 1.5 times the published ones."""
    noise = GCL([2, 1], margin=0, scale=1).adjust(torch.zeros(20000, 2), torch.zeros(20000, dtype=torch.long))[:, 1]
    assert noise.abs().mean().item() == pytest.approx(math.sqrt(2 / math.pi) / 3, rel=0.02)
    assert noise.abs().max() <= 1


def test_it_sees_the_same_noise_when_the_generator_is_restored(logits, labels):
    """A rule's evaluations within one step restore it; else they would differ by the noise, not by the weights."""
    loss = GCL(COUNTS)
    state = torch.get_rng_state()
    first = loss(logits, labels)
    assert loss(logits, labels) != first
    torch.set_rng_state(state)
    assert loss(logits, labels) == first
