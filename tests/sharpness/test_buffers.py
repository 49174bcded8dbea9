"""Batch normalisation's running statistics are those of the un-perturbed model, as without a rule."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.sharpness import SharpnessAware, SharpnessRule, create, names


def creatable_without_arguments() -> list[str]:
    found = []
    for name in names():
        try:
            create(name)
        except ValueError:
            continue
        found.append(name)
    return found


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    def statistics(self) -> list[torch.Tensor]:
        return [buffer.clone() for buffer in self.buffers()]

    def weights(self) -> torch.Tensor:
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()


def draw_batches(count: int, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 4, generator=generator).double(), torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


GIVEN = {
    "model": lambda model: model,
    "parameters": nn.Module.parameters,
    "named parameters": nn.Module.named_parameters,
}


def make(rule: SharpnessRule, given: str = "model") -> tuple[Classifier, torch.optim.Optimizer, SharpnessAware]:
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, SharpnessAware(rule, GIVEN[given](model), optimizer=optimizer)


# These look nowhere but at a shifted point, at least in their later steps; that evaluation is the one that counts.
LOOK_ELSEWHERE_ONLY = {"extragradient", "gnm", "graphsam"}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", creatable_without_arguments())
def test_running_statistics_are_of_the_unperturbed_evaluation_only(name, given):
    """Otherwise a model would be evaluated with statistics of weights that it never had."""
    model, optimizer, sharp = make(create(name), given)
    for step, (x, labels) in enumerate(draw_batches(6)):
        before, weights, seen = model.statistics(), model.weights(), []

        def closure(x=x, labels=labels, seen=seen):
            at = model.weights()
            loss = cross_entropy(model(x), labels)
            seen.append((at, model.statistics()))
            return loss

        sharp.backward(closure)
        where, statistics = seen[0]
        if name not in LOOK_ELSEWHERE_ONLY:
            assert torch.equal(where, weights)
        torch.testing.assert_close(model.statistics(), statistics, rtol=0, atol=0)
        assert int(model.layers[1].num_batches_tracked) == step + 1
        assert not torch.equal(model.layers[1].running_mean, before[0])
        optimizer.step()
        optimizer.zero_grad()


def test_micro_batches_each_count_once():
    batches = draw_batches(3)
    model, _, sharp = make(create("sam"))
    sharp.backward([lambda x=x, labels=labels: cross_entropy(model(x), labels) for x, labels in batches])
    plain, _, _ = make(create("none"))
    for x, _ in batches:
        plain(x)
    torch.testing.assert_close(model.statistics(), plain.statistics(), rtol=0, atol=0)


@pytest.mark.parametrize("evaluation", [0, 1, 2])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_step_that_fails_leaves_no_perturbed_statistics(evaluation, error):
    """As when memory runs out half-way and the loop goes on with a smaller batch."""
    model, _, sharp = make(create("crsam"))
    (x, labels), calls = draw_batches(1)[0], []

    def closure():
        calls.append(1)
        loss = cross_entropy(model(x), labels)
        if len(calls) == evaluation + 1:
            raise error("half-way")
        return loss

    with pytest.raises(error):
        sharp.backward(closure)
    once, _, _ = make(create("none"))
    once(x)
    torch.testing.assert_close(model.statistics(), once.statistics(), rtol=0, atol=0)


def test_no_hook_is_left_behind():
    """A hook that stays would slow down every model of the process."""
    model, _, sharp = make(create("sam"), "parameters")
    x, labels = draw_batches(1)[0]

    def fail():
        if int(model.layers[1].num_batches_tracked):
            raise RuntimeError("in the second evaluation")
        return cross_entropy(model(x), labels)

    with pytest.raises(RuntimeError, match="second evaluation"):
        sharp.backward(fail)
    assert not nn.modules.module._global_forward_pre_hooks
    assert int(model.layers[1].num_batches_tracked) == 1


def test_a_buffer_that_is_replaced_comes_back():
    """Own layers often write `self.mean = 0.9 * self.mean + ...` instead of changing the buffer in place."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.mean = self.mean + 1
            return x

    model = nn.Sequential(nn.Linear(2, 1), Mean())
    SharpnessAware(create("sam"), model.parameters()).backward(lambda: model(torch.ones(1, 2)).sum())
    assert float(model[1].mean) == 1
