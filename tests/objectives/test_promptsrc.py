"""PromptSRC averages the prompts over the epochs; its term is tested in test_zero_shot_objectives.py."""

import math

import torch

from hf_sharp_prompt.objectives import create


def test_the_prompts_become_the_gaussian_weighted_mean_of_the_epochs():
    objective, model = create("promptsrc", average_mean=3, average_std=1.5), torch.nn.Linear(2, 1).double()
    weights, values = [], []
    for epoch in range(1, 6):
        with torch.no_grad():
            model.weight.normal_()
        objective.end_epoch(model)
        weights.append(math.exp(-0.5 * ((epoch - 3) / 1.5) ** 2))
        values.append(model.weight.detach().clone())
    objective.end_run(model)
    expected = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-12, atol=0)


def test_epochs_far_from_its_mean_do_not_vanish():
    """A short run with the paper's settings would otherwise end on 0/0."""
    objective, model = create("promptsrc", average_mean=900), torch.nn.Linear(2, 1)
    for value in (1.0, 2.0):
        torch.nn.init.constant_(model.weight, value)
        objective.end_epoch(model)
    objective.end_run(model)
    assert model.weight.tolist() == [[2.0, 2.0]]


def test_parameters_keep_their_dtypes_and_their_own_memory():
    """Otherwise a head in half precision comes out in single, or saving one prompt saves all."""
    objective, model = create("promptsrc"), torch.nn.Sequential(torch.nn.Linear(2, 1).half(), torch.nn.Linear(1, 1))
    before = [(each.dtype, each.data_ptr()) for each in model.parameters()]
    for _ in range(2):
        objective.end_epoch(model)
    objective.end_run(model)
    assert [(each.dtype, each.data_ptr()) for each in model.parameters()] == before
