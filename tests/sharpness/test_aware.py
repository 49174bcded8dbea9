"""The mechanism behind all rules: whatever the set-up, the same direction, and nothing leaks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType
from family import DRAWS, NEEDS_LABELS, REMEMBERS, hyperparameters, make_rule, promised_cost, scaled
from problem import (
    Classifier,
    Rows,
    Scaled,
    assert_same_bits,
    assert_same_state,
    make_sharp,
    micro_batches,
)
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.sharpness import (
    Backward,
    Gradient,
    SharpnessAware,
    SharpnessRule,
    create,
    hyperparameter,
    names,
    unit,
)


def backward(sharp: SharpnessAware, model: Classifier, tampered: Callable | None = None) -> torch.Tensor:
    """One step's direction over the whole batch, the loss passing through `tampered`."""
    (closure,), labels = micro_batches(sharp.rule.name, model)
    return sharp.backward(closure if tampered is None else lambda: tampered(closure), labels)


def train(
    name: str,
    model: Classifier,
    rows: Sequence[Rows] = (slice(None),),
    per_sample: bool = False,
    steps: int = 3,
    sharp: SharpnessAware | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and losses of some steps, enough for what a rule remembers to matter."""
    sharp = sharp or make_sharp(name, model)
    directions, losses = [], []
    for _ in range(steps):
        sharp.optimizer.zero_grad()
        losses.append(sharp.backward(*micro_batches(name, model, rows, per_sample)))
        directions.append(model.directions().clone())
        sharp.optimizer.step()
    return torch.stack(directions), torch.stack(losses)


def advance(sharp: SharpnessAware, model: Classifier, steps: int) -> None:
    """Some steps over the whole batch."""
    for _ in range(steps):
        sharp.optimizer.zero_grad()
        backward(sharp, model)
        sharp.optimizer.step()


def evaluations(name: str, steps: int = 1, steps_per_epoch: int = 100) -> list[int]:
    """How often a rule asks for gradients in each step."""
    model, calls = Classifier(), []
    sharp = make_sharp(name, model)
    for step in range(steps):
        sharp.epoch = step // steps_per_epoch
        calls.append(0)

        def count(closure: Callable[[], torch.Tensor]) -> torch.Tensor:
            calls[-1] += 1
            return closure()

        backward(sharp, model, count)
    return calls


every_rule = pytest.mark.parametrize("name", names())
every_form_of_loss = pytest.mark.parametrize(
    ("name", "per_sample"),
    [(name, per_sample) for name in names() for per_sample in (False, True) if per_sample or name not in NEEDS_LABELS],
)
every_evaluation_of_every_rule = pytest.mark.parametrize(
    ("name", "step", "evaluation"),  # of the first step, and of the second where the rule then does another thing
    [
        (name, step, number)
        for name in names()
        for step in ((0, 1) if name in REMEMBERS | DRAWS else (0,))
        for number in range(evaluations(name, 2)[step])
    ],
)


def looks_here(name: str, step: int) -> bool:
    """Whether a rule by its equation asks for the gradient at the un-perturbed parameters."""
    return name != "gnm" and (name not in {"graphsam", "extragradient"} or step == 0)


@pytest.fixture
def momentum(monkeypatch: pytest.MonkeyPatch) -> SharpnessRule:
    """A rule that remembers, and does so before its second evaluation, which may fail."""
    monkeypatch.setattr(SharpnessRule.registry, "_members", dict(SharpnessRule.registry))

    @dataclass
    class Momentum(SharpnessRule, name="momentum"):
        rho: float = hyperparameter(0.1, low=0, help="")

        def direction(self, gradient: Gradient) -> torch.Tensor:
            g = gradient()
            self.state["m"] = g + 0.5 * self.state.get("m", torch.zeros_like(g))
            return gradient(offset=self.rho * unit(g)) + self.state["m"]

    return Momentum()


@every_rule
def test_a_rule_costs_what_its_docstring_says(name):
    """Otherwise a run takes longer than its user planned."""
    assert sum(evaluations(name, 20, steps_per_epoch=4)) / 20 == pytest.approx(promised_cost(name, 5, 4))


class TestTheBatchIsTheBatch:
    SPLITS = [
        pytest.param([slice(0, 2), slice(2, 4), slice(4, 6)], id="3 micro-batches"),
        pytest.param([slice(0, 1), slice(1, 3), slice(3, 6)], id="uneven micro-batches"),
        pytest.param([slice(0, 5), slice(5, 5), slice(5, 6)], id="an empty one"),
        pytest.param([slice(0, 6)], id="a list of one"),
    ]

    @every_form_of_loss
    @pytest.mark.parametrize("rows", SPLITS)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_accumulated_micro_batches_give_the_same_update(self, name, per_sample, rows, dtype, tolerance):
        """Otherwise what is learned depends on how much fits the memory at a time."""
        expected, expected_losses = train(name, Classifier(dtype))
        directions, losses = train(name, Classifier(dtype), rows, per_sample)
        atol = tolerance * float(expected.norm(dim=1).max())
        torch.testing.assert_close(directions, expected, rtol=0, atol=atol)
        torch.testing.assert_close(losses, expected_losses, rtol=tolerance, atol=0)

    @every_rule
    def test_single_precision_follows_the_same_direction(self, name):
        """Otherwise float32 runs are not of the method that float64 tests check."""
        expected, _ = train(name, Classifier())
        actual, _ = train(name, Classifier(torch.float32))
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5 * float(expected.norm(dim=1).max()))

    # rwp's noise is by its equation per row, so there shapes do matter.
    @pytest.mark.parametrize("name", [name for name in names() if name != "rwp"])
    def test_shapes_do_not_matter(self, name):
        """Otherwise a rule treats a prompt per layer unlike the same numbers in one tensor."""
        flat = nn.Parameter(torch.linspace(-1, 1, 22, dtype=torch.float64))
        shapes = [(), (3,), (2, 3), (2, 1, 2, 2), (4, 1)]
        values = flat.detach().split([math.prod(shape) for shape in shapes])
        shaped = [nn.Parameter(value.reshape(shape).clone()) for value, shape in zip(values, shapes, strict=True)]
        shaped[2] = nn.Parameter(values[2].reshape(2, 3).T.contiguous().T)
        assert not shaped[2].is_contiguous()
        labels = torch.tensor([0, 2, 1])

        def losses(vector: torch.Tensor) -> torch.Tensor:
            several = torch.stack([(torch.sin(each * vector) * torch.arange(len(vector))).sum() for each in (1, 2, 3)])
            return several + (vector.sum() - 1) ** 4

        one = SharpnessAware(make_rule(name), [flat], optimizer=torch.optim.SGD([flat], lr=0.001))
        many = SharpnessAware(make_rule(name), shaped, optimizer=torch.optim.SGD(shaped, lr=0.001))
        for _ in range(3):
            one.optimizer.zero_grad()
            many.optimizer.zero_grad()
            one.backward(lambda: losses(flat), labels)
            many.backward(lambda: losses(torch.cat([each.flatten() for each in shaped])), labels)
            assert all(each.grad.shape == each.shape for each in shaped)
            together = torch.cat([each.grad.flatten() for each in shaped])
            torch.testing.assert_close(together, flat.grad, rtol=0, atol=1e-10)
            one.optimizer.step()
            many.optimizer.step()

    @every_rule
    def test_a_parameter_that_the_loss_does_not_need_changes_nothing(self, name):
        """Otherwise an unused prompt (of a branch not taken in this step) stops training or disturbs it."""

        def rule() -> SharpnessRule:  # gnm and rwp would draw other noise for the longer vector
            return scaled(name, 0.0, "sigma", "gamma") if name in DRAWS else make_rule(name)

        model, alone = Classifier(), Classifier()
        unused = nn.Parameter(torch.ones(7, dtype=torch.float64))
        optimizer = torch.optim.SGD([unused, *model.trained()], lr=0.1, momentum=0.9)
        sharp = SharpnessAware(rule(), [unused, *model.parameters()], optimizer=optimizer)
        directions, _ = train(name, model, sharp=sharp)
        expected, _ = train(name, alone, sharp=make_sharp(rule(), alone))
        assert unused.grad is None, "so that weight decay and momentum do not move it, as after loss.backward()"
        torch.testing.assert_close(directions, expected, rtol=0, atol=1e-12)

    @every_rule
    def test_frozen_parameters_get_no_gradient(self, name):
        """Otherwise CLIP itself would be trained, and hold memory for it."""
        model = Classifier()
        train(name, model)
        assert model.frozen.grad is None

    @every_rule
    def test_the_unperturbed_loss_is_returned(self, name):
        """Otherwise logged losses are not comparable between rules.

        What a rule never asks for costs nothing and is not known: gnm always, graphsam and extragradient from their
        second step on, return the loss where they looked.
        """
        model = Classifier()
        sharp = make_sharp(name, model)
        for step in range(2):
            seen = []

            def see(closure: Callable[[], torch.Tensor], seen: list = seen) -> torch.Tensor:
                losses = closure()
                seen.append(losses.detach().mean())
                return losses

            here = model.losses().detach().mean()
            loss = backward(sharp, model, see)
            assert not loss.requires_grad
            torch.testing.assert_close(loss, here if looks_here(name, step) else seen[0], rtol=0, atol=1e-12)
            assert torch.allclose(loss, here, rtol=0, atol=1e-12) == looks_here(name, step)
            sharp.optimizer.step()

    @every_rule
    def test_it_is_added_to_the_gradients_that_are_there(self, name):
        """Otherwise a second loss's `backward()` before it is lost."""
        model, alone = Classifier(), Classifier()
        model.bias.grad = torch.ones_like(model.bias)
        backward(make_sharp(name, model), model)
        backward(make_sharp(name, alone), alone)
        alone.bias.grad += 1
        torch.testing.assert_close(model.directions(), alone.directions(), rtol=0, atol=1e-12)

    @every_rule
    def test_a_loop_may_run_the_backward_pass_itself(self, name):
        """Otherwise the Trainer, which does, follows another direction than the plain loop."""
        model = Classifier()
        sharp = make_sharp(name, model)
        expected, expected_losses = train(name, Classifier())

        def backward_pass(sample_mask: Callable | None) -> Backward:
            losses = model.losses()
            loss = (losses if sample_mask is None else losses * sample_mask(model.labels)).mean()
            loss.backward()
            return Backward(loss.detach())

        for direction, expected_loss in zip(expected, expected_losses, strict=True):
            sharp.optimizer.zero_grad()
            loss = sharp.accumulate_direction(backward_pass)
            torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
            torch.testing.assert_close(model.directions(), direction, rtol=0, atol=1e-12)
            sharp.optimizer.step()


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

    @every_evaluation_of_every_rule
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("held", [True, False], ids=["gradients held", "no gradients"])
    def test_a_closure_that_raises_leaves_everything_as_it_was(self, name, step, evaluation, error, held):
        """Otherwise catching an out-of-memory error, or Ctrl-C in a notebook, leaves a perturbed model behind."""
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

    @every_evaluation_of_every_rule
    @pytest.mark.parametrize("factor", [math.inf, math.nan])
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


class TestRandomness:
    @every_rule
    def test_all_evaluations_of_a_step_see_the_same_dropout_masks(self, name):
        """Otherwise the difference between two masks is taken for sharpness."""
        model = Classifier(dropout=0.5)
        losses = []
        (first, second), labels = micro_batches(name, model, [slice(0, 3), slice(3, 6)])

        def see(closure: Callable[[], torch.Tensor]) -> torch.Tensor:
            loss = closure()
            losses.append(float(loss.detach().sum()))
            return loss

        # Whatever a rule's perturbation is made of is zero, so that all evaluations are of the same parameters.
        sharp = make_sharp(scaled(name, 0.0, "rho", "radius", "gamma", "scale", "alpha"), model)
        sharp.backward([lambda: see(first), lambda: see(second)], labels)
        first_step = losses[:2]
        assert losses == first_step * evaluations(name)[0]
        sharp.backward([lambda: see(first), lambda: see(second)], labels)
        assert losses[-2:] != first_step, "the next step has masks of its own"

    @every_rule
    def test_a_step_draws_as_many_random_numbers_as_one_evaluation(self, name):
        """Otherwise runs with and without a rule differ in the order of their data, and cannot be compared."""
        model = Classifier(dropout=0.5)
        state = torch.get_rng_state()
        model.loss()
        expected = torch.get_rng_state()
        torch.set_rng_state(state)
        backward(make_sharp(name, model), model)
        assert torch.equal(torch.get_rng_state(), expected)

    @every_rule
    def test_a_rules_noise_depends_on_its_seed_alone(self, name):
        """Otherwise another data order, or a print of a random number, changes the perturbation."""

        def directions(of_torch: int, seed: int) -> torch.Tensor:
            torch.manual_seed(of_torch)
            model = Classifier()
            return train(name, model, sharp=make_sharp(name, model, seed=seed))[0]

        assert torch.equal(directions(0, seed=5), directions(1, seed=5))
        assert torch.equal(directions(0, seed=5), directions(0, seed=6)) == (name not in DRAWS)


class TestState:
    @pytest.mark.parametrize("name", [*names(), "momentum"])
    def test_a_restored_rule_goes_on_with_the_same_bits(self, name, momentum, tmp_path):
        """Otherwise a run that was killed and resumed ends elsewhere."""

        def run(model: Classifier, sharp: SharpnessAware, steps: range) -> None:
            for step in steps:
                sharp.epoch = step // 2  # the third step is not the last of its epoch
                sharp.optimizer.zero_grad()
                backward(sharp, model)
                with torch.no_grad():
                    for each in model.trained():
                        each -= 0.1 * each.grad

        through = Classifier()
        run(through, make_sharp(name, through), range(6))

        model = Classifier()
        sharp = make_sharp(name, model)
        assert sharp.state_dict().keys() == {"generator"}
        run(model, sharp, range(3))
        save_file(sharp.state_dict(), tmp_path / "rule.safetensors")
        for restore in (True, False):
            resumed = Classifier()
            resumed.load_state_dict(model.state_dict())
            sharp = make_sharp(name, resumed)
            if restore:
                sharp.load_state_dict(load_file(tmp_path / "rule.safetensors"))
            run(resumed, sharp, range(3, 6))
            same = [torch.equal(one, other) for one, other in zip(resumed.bits(), through.bits(), strict=True)]
            assert all(same) == (restore or name not in REMEMBERS | DRAWS | {"momentum"})

    @every_rule
    def test_what_is_reported_is_the_mean_over_the_steps(self, name):
        """Otherwise the sharpness in the logs is not what the rule saw.

        imbsam perturbs for a part of the batch and gnm looks nowhere else, so neither sees the sharpness; graphsam
        and extragradient see it only where they look twice, at most in an epoch's first step. crsam's is uphill.
        """
        curvature = torch.tensor([1.0, 4.0], dtype=torch.float64)
        w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
        labels = torch.tensor([0, 2])

        def loss(at: torch.Tensor) -> torch.Tensor:
            return (curvature * at**2).sum() / 2

        def losses() -> torch.Tensor:
            points.append(w.detach().clone())
            return torch.stack([0.5 * loss(w), 1.5 * loss(w)])

        sharp = SharpnessAware(make_rule(name), [w], optimizer=torch.optim.SGD([w], lr=0.1))
        expected: dict[str, list[float]] = {"loss": [], "gradient_norm": []}
        for step, point in enumerate(([1.0, 1.0], [0.5, -2.0])):
            points = []
            with torch.no_grad():
                w.copy_(torch.tensor(point))
            sharp.backward(losses, labels)
            here = w.detach() if looks_here(name, step) else points[0]
            g = curvature * here
            expected["loss"].append(float(loss(here)))
            expected["gradient_norm"].append(float(g.norm()))
            elsewhere = [at for at in points if not torch.equal(at, here)]
            if elsewhere and name != "imbsam":
                there, g_p = elsewhere[0], curvature * elsewhere[0]
                values = {
                    "perturbed_loss": loss(there),
                    "sharpness": loss(there) - loss(here),
                    "cosine": g @ g_p / (g.norm() * g_p.norm()),
                }
                assert values["sharpness"] > 0 or name == "rwp", "uphill, but for chance"
                for key, value in values.items():
                    expected.setdefault(key, []).append(float(value))
        metrics = sharp.pop_metrics()
        shares = {key: metrics.pop(key) for key in list(metrics) if key.startswith("branch_")}
        assert metrics == pytest.approx({key: sum(found) / len(found) for key, found in expected.items()}, abs=1e-10)
        assert sharp.pop_metrics() == {}, "reported once"
        if name == "gcsam":  # the two gradients are all but parallel here
            assert shares == {"branch_gradient": 0, "branch_bisector": 0, "branch_perturbed": 1}


class TestRhoSchedules:
    """Otherwise the radius late in a run is not the one that was asked for."""

    SCHEDULES = pytest.mark.parametrize(
        ("schedule", "progress", "factor"),
        [
            ("constant", 0.9, 1),
            ("linear", 0, 1),
            ("linear", 0.75, 0.25),
            ("linear", 1, 0),
            ("cosine", 0, 1),
            ("cosine", 1 / 3, 0.75),
            ("cosine", 1, 0),
            ("learning_rate", 0.9, 0.2),
        ],
    )

    @every_rule
    @SCHEDULES
    def test_a_schedule_scales_the_radius(self, name, schedule, progress, factor):
        """Of rules that have one; graphsam has two."""
        model, expected = Classifier(), Classifier()
        sharp = make_sharp(name, model, rho_schedule=schedule)
        sharp.progress = progress
        other = make_sharp(scaled(name, factor, "rho", "radius"), expected)
        for each in (sharp, other):
            each.optimizer.param_groups[0].update(lr=0.1, initial_lr=0.5)
        hyperparameters_before = vars(make_rule(name)).keys() - {"state", "reported"}
        actual, wanted = (train(name, net, sharp=each)[0] for net, each in ((model, sharp), (expected, other)))
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-10)
        for each in hyperparameters_before:
            assert getattr(sharp.rule, each) == getattr(make_rule(name), each), "what the user set stays"

    @pytest.mark.parametrize("name", [name for name in names() if "rho" in hyperparameters(name)])
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_the_radius_is_put_back_after_an_error(self, name, error):
        model = Classifier()
        sharp = make_sharp(name, model, rho_schedule="linear")
        sharp.progress = 0.5
        before = {each: getattr(sharp.rule, each) for each in hyperparameters(name)}

        def fail(closure: Callable[[], torch.Tensor]) -> torch.Tensor:
            raise error

        with pytest.raises(error):
            backward(sharp, model, fail)
        assert {each: getattr(sharp.rule, each) for each in hyperparameters(name)} == before

    def test_without_an_initial_learning_rate_the_present_one_is_the_highest(self):
        """As of an optimizer without a scheduler, also one that stands still."""
        for rate in (0.1, 0.0):
            model = Classifier()
            sharp = make_sharp("sam", model, rho_schedule="learning_rate")
            sharp.optimizer.param_groups[0]["lr"] = rate
            directions, _ = train("sam", model, sharp=sharp, steps=1)
            expected, _ = train("sam" if rate else "none", Classifier(), steps=1)
            assert torch.equal(directions, expected)

    def test_an_unknown_schedule(self):
        message = "rho_schedule must be one of constant, linear, cosine, learning_rate, got 'quadratic'"
        with pytest.raises(ValueError, match=message):
            make_sharp("sam", Classifier(), rho_schedule="quadratic")

    def test_no_learning_rate_to_ask_for(self):
        model = Classifier()
        sharp = SharpnessAware(make_rule("sam"), model.parameters(), rho_schedule="learning_rate")
        with pytest.raises(ValueError, match=r"'sam' with rho_schedule='learning_rate' looks at .*give .* optimizer"):
            backward(sharp, model)
        sharp = SharpnessAware(make_rule("extragradient"), model.parameters())
        backward(sharp, model)
        with pytest.raises(ValueError, match=r"'extragradient' with .* looks at .*give .* optimizer"):
            backward(sharp, model)


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

    @every_evaluation_of_every_rule
    @pytest.mark.parametrize("in_a_row", [1, 3])
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


@pytest.fixture
def accelerators() -> Iterator[Callable[..., Accelerator]]:
    """Makes real ones on the CPU, and afterwards removes what they leave in the process."""
    yield lambda **settings: Accelerator(cpu=True, **settings)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


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


class TestProcesses:
    @every_form_of_loss
    def test_an_accelerator_of_one_process_changes_nothing(self, accelerators, name, per_sample):
        """Otherwise a script behaves differently under `accelerate launch`."""
        model = Classifier()
        directions, _ = train(name, model, per_sample=per_sample, sharp=make_sharp(name, model, accelerators()))
        assert torch.equal(directions, train(name, Classifier(), per_sample=per_sample)[0])


class TestErrors:
    """Otherwise training runs for nothing, or fails deep in torch."""

    def test_nothing_to_train(self):
        with pytest.raises(ValueError, match="nothing to train: none of the parameters has requires_grad=True"):
            SharpnessAware(create("sam"), [Classifier().frozen])

    def test_several_devices(self):
        parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, device="meta"))]
        with pytest.raises(ValueError, match=r"trainable parameters are on several devices \(cpu, meta\)"):
            SharpnessAware(create("sam"), parameters)

    @every_rule
    @pytest.mark.parametrize("constant", [lambda model: torch.tensor(1.0), lambda model: model.loss().detach()])
    def test_a_closure_without_gradient(self, name, constant):
        model = Classifier()
        sharp = make_sharp(name, model)
        with pytest.raises(ValueError, match=r"loss does not depend on any trainable parameter\. It must"):
            sharp.backward(lambda: constant(model))
        other = nn.Parameter(torch.ones(6))
        with pytest.raises(ValueError, match="No gradient reached the trainable parameters"):
            sharp.backward(lambda: 1 * other, model.labels)
        assert all(each.grad is None for each in model.parameters())

    @pytest.mark.parametrize("name", sorted(NEEDS_LABELS))
    def test_a_rule_that_tells_classes_apart_without_labels_or_losses_per_sample(self, name):
        model = Classifier()
        sharp = make_sharp(name, model)
        for arguments in ((model.losses,), (model.loss, model.labels)):
            with pytest.raises(ValueError, match=f"'{name}' tells classes apart: the closure must return the losses"):
                sharp.backward(*arguments)

    def test_accumulation_by_the_accelerator(self, accelerators):
        message = "leave the Accelerator's gradient_accumulation_steps at 1 and give backward.. a list of closures"
        with pytest.raises(ValueError, match=message):
            SharpnessAware(create("sam"), Classifier().parameters(), accelerators(gradient_accumulation_steps=2))

    @pytest.mark.parametrize(
        ("engine", "name"),
        [
            (DistributedType.DEEPSPEED, "DEEPSPEED"),
            (DistributedType.FSDP, "FSDP"),
            (DistributedType.MEGATRON_LM, "MEGATRON_LM"),
        ],
    )
    def test_engines_that_own_the_gradient(self, engine: Any, name: str):
        accelerator = SimpleNamespace(distributed_type=engine, gradient_accumulation_steps=1)
        message = f"which {name} does not give: .* plain data parallelism does: `accelerate launch --multi_gpu`"
        with pytest.raises(ValueError, match=message):
            SharpnessAware(create("sam"), Classifier().parameters(), accelerator)
