"""Half precision and loss scaling: the same directions, and overflows that cost a step alone."""

import math
from collections.abc import Callable

import pytest
import torch
from sharpness.every_rule import make_rule
from sharpness.problem import (
    Classifier,
    Scaled,
    assert_same_bits,
    assert_same_state,
    make_sharp,
    micro_batches,
)
from sharpness.steps import (
    EVALUATIONS,
    advance,
    backward,
    every_form_of_loss,
    every_rule,
    train,
)
from support.rotation import rotate

from hf_sharp_prompt.sharpness import (
    SharpnessRule,
    create,
)


class TestLossScaling:
    @every_form_of_loss
    def test_directions_are_those_without_scaling(self, name, per_sample):
        """Otherwise rho is divided by the loss scale, and fp16 runs follow another direction."""
        model, accelerator = Classifier(torch.float32), Scaled()
        sharp, halves = make_sharp(name, model, accelerator), [slice(0, 3), slice(3, 6)]
        expected, expected_losses = train(name, Classifier(torch.float32))
        for direction, expected_loss in zip(expected, expected_losses, strict=True):
            sharp.optimizer.zero_grad()
            loss = sharp.backward(*micro_batches(name, model, halves, per_sample))
            accelerator.scaler.unscale_(sharp.optimizer)
            torch.testing.assert_close(model.directions(), direction, rtol=0, atol=1e-5 * float(direction.norm()))
            torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
            accelerator.scaler.step(sharp.optimizer)
            accelerator.scaler.update()
        plain = Classifier(torch.float32)
        unscaled = make_sharp(name, plain)
        advance(unscaled, plain, 3)
        assert sharp.pop_metrics() == pytest.approx(unscaled.pop_metrics(), rel=1e-3, abs=1e-5)

    @every_rule
    def test_half_precision_follows_the_direction_within_its_error(self, name):
        """Otherwise fp16 is another method, as where autocast keeps the un-perturbed weights in its cache."""
        model, accelerator = Classifier(torch.float32), Scaled(2.0**8)
        sharp = make_sharp(name, model, accelerator)
        with torch.autocast("cpu", torch.float16):
            backward(sharp, model)
        accelerator.scaler.unscale_(sharp.optimizer)
        expected, _ = train(name, Classifier(torch.float32), steps=1)
        assert (model.directions() - expected[0]).norm() < 3e-3 * expected[0].norm()
        assert not torch.equal(model.directions(), expected[0]), "in float16"

    @pytest.mark.parametrize(
        ("name", "step", "evaluation", "in_a_row"),
        [(*where, in_a_row) for where, in_a_row in rotate(EVALUATIONS, [1, 3])],
    )
    def test_an_overflow_skips_the_step_and_training_goes_on(self, name, step, evaluation, in_a_row):
        """Otherwise fp16 training ends in NaN at the first overflow, or steps in half a direction."""
        self.overflow(make_rule(name), make_rule(name), step, evaluation, in_a_row)

    @pytest.mark.parametrize("evaluation", [0, 1])
    @pytest.mark.parametrize("step", [0, 1])
    def test_an_overflow_after_the_rule_remembered(self, momentum, step, evaluation):
        """Otherwise it remembers a step that never was."""
        self.overflow(momentum, create("momentum"), step, evaluation, 1)

    def overflow(self, rule: SharpnessRule, same: SharpnessRule, step: int, evaluation: int, in_a_row: int) -> None:
        model, accelerator = Classifier(torch.float32), Scaled()
        scaler, sharp = accelerator.scaler, make_sharp(rule, model, accelerator)

        def take_step(overflow_in: int | None = None) -> None:
            calls = []

            def overflow(closure: Callable[[], torch.Tensor]) -> torch.Tensor:
                calls.append(None)
                return closure() * (1e38 if len(calls) - 1 == overflow_in else 1)

            sharp.optimizer.zero_grad()
            backward(sharp, model, overflow)
            scaler.step(sharp.optimizer)
            scaler.update()

        for _ in range(step):
            take_step()
        before, state, scale = model.bits(), sharp.state_dict(), scaler.get_scale()
        buffers = [each["momentum_buffer"].clone() for each in sharp.optimizer.state.values()]
        for _ in range(in_a_row):
            take_step(overflow_in=evaluation)
        assert_same_bits(model.bits(), before)
        assert_same_bits([each["momentum_buffer"] for each in sharp.optimizer.state.values()], buffers)
        assert_same_state(sharp.state_dict(), state)
        assert scaler.get_scale() == scale / 2**in_a_row
        take_step()
        take_step()
        undisturbed = Classifier(torch.float32)
        advance(make_sharp(same, undisturbed), undisturbed, step + 2)
        for one, other in zip(model.bits(), undisturbed.bits(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@every_rule
def test_accelerates_own_optimizer_skips_a_step_that_overflows(name, accelerators):
    """Otherwise an Accelerate loop with fp16 is not what the tests of torch's scaler are about."""
    model, accelerator = Classifier(torch.float32), accelerators()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)  # which it makes itself on a GPU
    sharp = make_sharp(name, model, accelerator)
    optimizer = accelerator.prepare_optimizer(sharp.optimizer)
    for overflow in (False, True, True, False):
        before, state, scale = model.bits(), sharp.state_dict(), accelerator.scaler.get_scale()

        def spoil(closure: Callable[[], torch.Tensor], overflow: bool = overflow) -> torch.Tensor:
            return closure() * (1e38 if overflow else 1)

        backward(sharp, model, spoil)
        optimizer.step()
        optimizer.zero_grad()
        same = [torch.equal(one, other) for one, other in zip(model.bits(), before, strict=True)]
        assert optimizer.step_was_skipped == overflow
        assert all(same) == overflow
        assert accelerator.scaler.get_scale() == scale / (2 if overflow else 1)
        metrics = sharp.pop_metrics()
        assert all(math.isfinite(value) for value in metrics.values())
        assert bool(metrics) != overflow
        if overflow:
            assert_same_state(sharp.state_dict(), state)
