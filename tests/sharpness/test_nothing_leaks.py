"""Whatever fails in a step, and wherever: everything is as it was before."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from sharpness.every_rule import make_rule
from sharpness.problem import (
    Classifier,
    assert_same_bits,
    assert_same_state,
    make_sharp,
    micro_batches,
)
from sharpness.steps import (
    EVALUATIONS,
    advance,
    backward,
    evaluations,
    every_rule,
)
from support.rotation import rotate
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.sharpness import (
    SharpnessAware,
)


class TestNothingLeaks:
    @every_rule
    def test_parameters_have_the_same_bits_after_a_step(self, name):
        """Otherwise rounding errors of perturbing and restoring add up over thousands of steps."""
        model = Classifier(torch.float32)
        before = model.bits()
        sharp = make_sharp(name, model)
        still = torch.optim.SGD(model.trained(), lr=0.0)
        for _ in range(3):
            backward(sharp, model)
            still.step()
        assert_same_bits(model.bits(), before)

    @pytest.mark.parametrize(
        ("name", "step", "evaluation", "error", "held"),
        [
            (*where, *how)
            for where, how in rotate(EVALUATIONS, [*product([RuntimeError, KeyboardInterrupt], [True, False])])
        ],
    )
    def test_a_closure_that_raises_leaves_everything_as_it_was(self, name, step, evaluation, error, held):
        """Otherwise catching an out-of-memory error, or Ctrl-C in a notebook, leaves a perturbed model behind.

        What is raised, and whether gradients were held, take turns: putting back depends on neither.
        """
        model, undisturbed = Classifier(), Classifier()
        sharp, other = make_sharp(name, model), make_sharp(name, undisturbed)
        advance(sharp, model, step)
        advance(other, undisturbed, step)
        model.zero_grad()
        sharp.pop_metrics()
        if held:
            model.loss().backward()
        gradients = [each.grad for each in model.parameters()]
        values = [None if each is None else each.clone() for each in gradients]
        before, state, calls = model.bits(), sharp.state_dict(), []
        (first, second), labels = micro_batches(name, model, [slice(0, 3), slice(3, 6)])

        def raise_in_time() -> torch.Tensor:
            calls.append(None)
            if len(calls) > evaluation:
                raise error("out of memory")
            return second()

        with pytest.raises(error, match="out of memory"):
            sharp.backward([first, raise_in_time], labels)
        assert_same_bits(model.bits(), before)
        for parameter, gradient, value in zip(model.parameters(), gradients, values, strict=True):
            assert parameter.grad is gradient
            assert value is None or torch.equal(gradient, value)
        assert sharp.pop_metrics() == {}
        assert_same_state(sharp.state_dict(), state)
        model.zero_grad()
        undisturbed.zero_grad()
        backward(sharp, model)
        backward(other, undisturbed)
        assert torch.equal(model.directions(), undisturbed.directions()), "and the next step is as ever"

    @pytest.mark.parametrize(
        ("name", "step", "evaluation", "factor"),
        [(*where, factor) for where, factor in rotate(EVALUATIONS, [math.inf, math.nan])],
    )
    def test_a_gradient_that_is_not_finite_leaves_everything_alone(self, name, step, evaluation, factor):
        """Otherwise one bad batch leaves NaN in the prompt, even with a learning rate of zero, or in the memory."""
        model = Classifier()
        sharp = make_sharp(name, model)
        advance(sharp, model, step)
        before, state, calls = model.bits(), sharp.state_dict(), []

        def spoil(closure: Callable[[], torch.Tensor]) -> torch.Tensor:
            calls.append(None)
            return closure() * (factor if len(calls) == evaluation + 1 else 1)

        model.zero_grad()
        backward(sharp, model, spoil)
        assert_same_bits(model.bits(), before)
        assert_same_state(sharp.state_dict(), state)
        assert not model.directions().isfinite().all(), "clipping and scalers can see that the step failed"

    @pytest.mark.parametrize("evaluation", [0, 1])
    @pytest.mark.parametrize("first_step", [True, False], ids=["first step", "later step"])
    @pytest.mark.parametrize("failure", [math.nan, math.inf, RuntimeError])
    def test_a_failed_step_leaves_the_rules_state_alone(self, momentum, evaluation, first_step, failure):
        """Otherwise one overflow poisons the rule's memory for the rest of the run."""
        model = Classifier()
        sharp = make_sharp(momentum, model)
        if not first_step:
            backward(sharp, model)
        held = {name: tensor.clone() for name, tensor in sharp.state_dict().items()}
        calls = []

        def fail(closure: Callable[[], torch.Tensor]) -> torch.Tensor:
            calls.append(None)
            if len(calls) != evaluation + 1:
                return closure()
            if failure is RuntimeError:
                raise RuntimeError
            return closure() * failure

        model.zero_grad()
        if failure is RuntimeError:
            with pytest.raises(RuntimeError):
                backward(sharp, model, fail)
        else:
            backward(sharp, model, fail)
            assert not model.directions().isfinite().any(), "no step is taken in a direction the state ignores"
        assert_same_state(sharp.state_dict(), held)

    @every_rule
    @pytest.mark.parametrize("fails", [False, True])
    def test_buffers_change_as_in_one_evaluation(self, name, fails):
        """Otherwise batch normalisation learns the statistics of perturbed networks."""
        model, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        inputs, labels = Classifier(torch.float32).inputs[:, :4], torch.tensor([0, 2, 1, 1, 0, 2])
        other(inputs)
        optimizer, calls = torch.optim.SGD(model.parameters(), lr=0.1), []
        sharp = SharpnessAware(make_rule(name), model, optimizer=optimizer)

        def losses() -> torch.Tensor:
            calls.append(None)
            result = cross_entropy(model(inputs), labels, reduction="none")
            if fails and len(calls) == evaluations(name)[0]:
                raise RuntimeError
            return result

        if fails:
            with pytest.raises(RuntimeError):
                sharp.backward(losses, labels)
        else:
            sharp.backward(losses, labels)
        assert int(model.num_batches_tracked) == 1
        assert_same_bits(list(model.buffers()), list(other.buffers()))

    @every_rule
    def test_gradients_that_are_changed_in_place_change_nothing_else(self, name):
        """Otherwise clipping, or zeroing without freeing, rewrites what the rule remembers."""
        model = Classifier()
        sharp = make_sharp(name, model)
        for _ in range(2):
            backward(sharp, model)
            held = {key: tensor.clone() for key, tensor in sharp.state_dict().items()}
            sharp.optimizer.zero_grad(set_to_none=False)
            assert_same_state(sharp.state_dict(), held)
