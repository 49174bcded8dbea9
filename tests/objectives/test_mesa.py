"""MESA's average of the weights costs the model nothing; its term is tested in test_saf_and_mesa.py."""

import pytest
import torch
from objectives.small_loop import Classifier, loss_of
from torch import nn

from hf_sharp_prompt.objectives import ObjectiveSum, create


def step(model: nn.Module) -> tuple[ObjectiveSum, torch.Tensor]:
    objectives = ObjectiveSum([create("mesa", decay=0.5, start=0)])
    objectives.begin_step(model, 0)
    loss_of(model, torch.arange(4), objectives).backward()
    with torch.no_grad():
        model.first += 1
    objectives.end_step(model)
    objectives.begin_step(model, 0)
    return objectives


def test_the_model_has_its_own_weights_back():
    """Also after an interrupt in the middle of the other weights' forward pass."""
    model = Classifier(dropout=0.5)
    objectives, before, calls = step(model), [each.clone() for each in model.parameters()], []
    model.frozen_part = nn.Dropout(0.5).eval()
    modes = [module.training for module in model.modules()]

    def interrupt(module, inputs, outputs):
        calls.append(model.values())
        if len(calls) == 2:
            raise KeyboardInterrupt

    model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loss_of(model, torch.arange(4), objectives)
    assert not torch.equal(*calls)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))
    assert [module.training for module in model.modules()] == modes


def test_it_draws_no_random_numbers():
    """Otherwise masks, and the order of the data, differ between runs with and without it."""
    model = Classifier(dropout=0.5)
    objectives = step(model)
    state = torch.get_rng_state()
    model(model.inputs[:4])
    expected = torch.get_rng_state()
    torch.set_rng_state(state)
    loss_of(model, torch.arange(4), objectives)
    assert torch.equal(torch.get_rng_state(), expected)


def test_it_keeps_running_statistics():
    """Batch normalisation must not learn those of the mean's activations."""
    model = Classifier()
    model.dropout = nn.BatchNorm1d(4).double()
    objectives = step(model)
    count = int(model.dropout.num_batches_tracked)
    loss_of(model, torch.arange(4), objectives)
    assert int(model.dropout.num_batches_tracked) == count + 1
