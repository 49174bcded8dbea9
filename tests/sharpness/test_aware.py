"""The mechanism behind all rules: whatever the set-up, the same direction, and nothing leaks."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from sharpness.every_rule import DRAWS, NEEDS_LABELS, REMEMBERS, hyperparameters, make_rule, promised_cost, scaled
from sharpness.problem import (
    Classifier,
    make_sharp,
    micro_batches,
)
from sharpness.steps import (
    backward,
    evaluations,
    every_form_of_loss,
    every_rule,
    looks_here,
    train,
)
from support.rotation import rotate
from torch import nn

from hf_sharp_prompt.sharpness import (
    Backward,
    SharpnessAware,
    SharpnessRule,
    create,
    names,
)


@every_rule
def test_a_rule_costs_what_its_docstring_says(name):
    """Otherwise a run takes longer than its user planned."""
    assert sum(evaluations(name, 20, steps_per_epoch=4)) / 20 == pytest.approx(promised_cost(name, 5, 4))


class TestTheBatchIsTheBatch:
    SPLITS = {
        "3 micro-batches": [slice(0, 2), slice(2, 4), slice(4, 6)],
        "uneven micro-batches": [slice(0, 1), slice(1, 3), slice(3, 6)],
        "an empty one": [slice(0, 5), slice(5, 5), slice(5, 6)],
        "a list of one": [slice(0, 6)],
    }
    PRECISIONS = {torch.float64: 1e-10, torch.float32: 1e-5}

    @every_rule
    def test_accumulated_micro_batches_give_the_same_update(self, name):
        """Otherwise what is learned depends on how much fits the memory at a time.

        The splits, the form of the losses and the precision take turns over the rules: adding up knows no rule.
        """
        turn = names().index(name)
        for per_sample in (True,) if name in NEEDS_LABELS else (True, False):
            dtype = [*self.PRECISIONS][(turn // 4 + per_sample) % 2]
            rows = [*self.SPLITS.values()][(turn + per_sample) % 4]
            self.assert_same_update(name, rows, per_sample, dtype)

    @every_form_of_loss
    def test_uneven_micro_batches_give_the_same_update_to_the_last_digits(self, name, per_sample):
        """Whatever the rule, as a rule may look at the batch once for all micro-batches or once for each."""
        self.assert_same_update(name, self.SPLITS["uneven micro-batches"], per_sample, torch.float64)

    def assert_same_update(self, name: str, rows: list[slice], per_sample: bool, dtype: torch.dtype) -> None:
        tolerance = self.PRECISIONS[dtype]
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
        assert losses[-2:] != first_step, "the next step has its own masks"

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

        imbsam perturbs for a part of the batch, focalsam for a weighted one, and gnm looks nowhere else, so none of
        them sees the sharpness; graphsam and extragradient see it only where they look twice, at most in an epoch's
        first step. crsam's is uphill.
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
            if elsewhere and name not in NEEDS_LABELS:
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

    SCHEDULES = [
        ("linear", 0.75, 0.25),
        ("cosine", 1 / 3, 0.75),
        ("learning_rate", 0.9, 0.2),
        ("constant", 0.9, 1),
        ("linear", 0, 1),
        ("linear", 1, 0),
        ("cosine", 0, 1),
        ("cosine", 1, 0),
    ]

    @pytest.mark.parametrize(
        ("name", "schedule", "progress", "factor"),
        [
            # The schedule's factor depends on no rule: each rule meets one that changes its radius, and sam meets all.
            *((name, *schedule) for name, schedule in rotate(names(), SCHEDULES[:3])),
            *(("sam", *schedule) for schedule in SCHEDULES),
        ],
    )
    def test_a_schedule_scales_the_radius(self, name, schedule, progress, factor):
        """Rules have one radius; graphsam has two."""
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

    @pytest.mark.parametrize(
        ("name", "error"),
        rotate([name for name in names() if "rho" in hyperparameters(name)], [RuntimeError, KeyboardInterrupt]),
    )
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
    def test_a_closure_without_gradient(self, name):
        model = Classifier()
        sharp = make_sharp(name, model)
        for constant in (lambda: torch.tensor(1.0), lambda: model.loss().detach()):
            with pytest.raises(ValueError, match=r"loss does not depend on any trainable parameter\. It must"):
                sharp.backward(constant)
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
