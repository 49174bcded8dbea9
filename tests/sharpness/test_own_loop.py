"""What a loop of one's own may give to SharpnessAware, and what it is told where it gives something else."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_sharp_prompt.sharpness import SharpnessAware, create


def test_a_parameter_that_is_given_twice_counts_once():
    """Tied weights come twice where lists of parameters are added up; their gradient must not count double."""
    once, twice = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    SharpnessAware(create("sam"), [once]).backward(lambda: (once**3).sum())
    SharpnessAware(create("sam"), [twice, twice]).backward(lambda: (twice**3).sum())
    assert torch.equal(once.grad, twice.grad)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([np.ones(2)], "among them is a ndarray"),
        ([{"params": [nn.Parameter(torch.ones(2))]}], "among them is a dict"),
        (nn.Parameter(torch.ones(2)), "got one tensor; put it into a list"),
    ],
)
def test_something_else_than_parameters(given, message):
    with pytest.raises(ValueError, match=message):
        SharpnessAware(create("sam"), given)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda loss: (loss, 0), "returned a tuple of 2; return its loss alone"),
        (lambda loss: None, "returned None; end it with `return loss`"),
        (lambda loss: loss.item(), "returned a float; keep the tensor"),
        (lambda loss: loss.detach().numpy(), "returned a ndarray; keep the tensor"),
        (lambda loss: SequenceClassifierOutput(loss=loss), "Output; return its `loss`"),
        (lambda loss: loss.reshape(1, 1), r"a tensor of shape \(1, 1\); return its mean"),
    ],
)
def test_a_closure_that_returns_no_loss(returned, message):
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=message):
        SharpnessAware(create("sam"), [weight]).backward(lambda: returned((weight**2).sum()))
    assert weight.grad is None


@pytest.mark.parametrize("given", [lambda loss: loss, lambda loss: [loss, loss], lambda loss: []])
def test_the_loss_itself_instead_of_a_closure(given):
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="takes a function that computes the loss, or a list of them"):
        SharpnessAware(create("sam"), [weight]).backward(given((weight**2).sum()))


def test_labels_for_other_closures():
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="There are 2 closures but 1 labels; give one to each"):
        SharpnessAware(create("sam"), [weight]).backward([weight.sum, weight.sum], labels=[torch.ones(2)])
