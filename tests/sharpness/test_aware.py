"""The mechanism behind all rules: whatever the set-up, the same direction, and nothing leaks."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.sharpness import SharpnessAware, SharpnessRule, create, names
from hf_sharp_prompt.sharpness.rule import Gradient, hyperparameter
from hf_sharp_prompt.sharpness.vectors import unit


BATCH = 6
ROOT = Path(__file__).parents[2]


def evaluations(name: str) -> int:
    """How often a rule asks for gradients."""
    calls = []
    create(name).direction(lambda offset=None: calls.append(offset) or torch.ones(3))
    return len(calls)


every_rule = pytest.mark.parametrize("name", names())
every_evaluation_of_every_rule = pytest.mark.parametrize(
    ("name", "evaluation"), [(name, number) for name in names() for number in range(evaluations(name))]
)


class Classifier(nn.Module):
    """A small non-convex problem, with matrices and vectors to train and one of each that are frozen."""

    def __init__(self, dtype: torch.dtype = torch.float64, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        self.inputs, self.labels = draw(BATCH, 5), torch.tensor([0, 2, 1, 1, 0, 2])
        self.frozen = nn.Parameter(draw(5, 5), requires_grad=False)
        self.first, self.second, self.bias = (nn.Parameter(draw(*shape)) for shape in ((5, 4), (4, 3), (3,)))
        self.dropout = nn.Dropout(dropout)

    def loss(self, rows: slice | list[int] = slice(None)) -> torch.Tensor:
        """The rows' share of the batch's mean loss."""
        hidden = self.dropout(torch.tanh(self.inputs[rows] @ self.frozen @ self.first))
        return cross_entropy(hidden @ self.second + self.bias, self.labels[rows], reduction="sum") / BATCH

    def directions(self) -> torch.Tensor:
        return torch.cat([each.grad.flatten() for each in self.parameters() if each.grad is not None])

    def bits(self) -> list[torch.Tensor]:
        return [each.detach().clone() for each in self.parameters()]


def assert_same_bits(some: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def direction(name: str, model: Classifier | None = None) -> torch.Tensor:
    """The rule's direction over the whole batch at once, in float64."""
    model = model or Classifier()
    SharpnessAware(create(name), model.parameters()).backward(model.loss)
    return model.directions()


def without(name: str, hyperparameter: str) -> SharpnessRule:
    """A rule with one hyperparameter, if it has it, set to zero."""
    rule = create(name)
    return create(name, **{hyperparameter: 0.0}) if hyperparameter in [each.name for each in fields(rule)] else rule


@pytest.fixture
def momentum(monkeypatch: pytest.MonkeyPatch) -> SharpnessRule:
    """A rule that remembers, and does so before its second evaluation, which may fail."""
    monkeypatch.setattr(SharpnessRule, "registry", dict(SharpnessRule.registry))

    @dataclass
    class Momentum(SharpnessRule, name="momentum"):
        rho: float = hyperparameter(0.1, low=0, help="")

        def direction(self, gradient: Gradient) -> torch.Tensor:
            g = gradient()
            self.state["m"] = g + 0.5 * self.state.get("m", torch.zeros_like(g))
            return gradient(offset=self.rho * unit(g)) + self.state["m"]

    return Momentum()


class TestTheBatchIsTheBatch:
    SPLITS = [
        pytest.param([slice(0, 2), slice(2, 4), slice(4, 6)], id="3 micro-batches"),
        pytest.param([slice(0, 1), slice(1, 3), slice(3, 6)], id="uneven micro-batches"),
        pytest.param([slice(0, 6)], id="a list of one"),
    ]

    @every_rule
    @pytest.mark.parametrize("rows", SPLITS)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_accumulated_micro_batches_give_the_same_update(self, name, rows, dtype, tolerance):
        """Otherwise what is learned depends on how much fits the memory at a time."""
        model, whole = Classifier(dtype), Classifier(dtype)
        expected = direction(name, whole)
        closures = [lambda part=part: model.loss(part) for part in rows]
        loss = SharpnessAware(create(name), model.parameters()).backward(closures)
        torch.testing.assert_close(model.directions(), expected, rtol=0, atol=tolerance * float(expected.norm()))
        torch.testing.assert_close(loss, whole.loss().detach())

    @every_rule
    def test_single_precision_follows_the_same_direction(self, name):
        """Otherwise float32 runs are not of the method that float64 tests check."""
        expected = direction(name)
        actual = direction(name, Classifier(torch.float32))
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5 * float(expected.norm()))

    @every_rule
    def test_shapes_do_not_matter(self, name):
        """Otherwise a rule treats a prompt per layer unlike the same numbers in one tensor."""
        flat = nn.Parameter(torch.linspace(-1, 1, 22, dtype=torch.float64))
        shapes = [(), (3,), (2, 3), (2, 1, 2, 2), (4, 1)]
        values = flat.detach().split([math.prod(shape) for shape in shapes])
        shaped = [nn.Parameter(value.reshape(shape).clone()) for value, shape in zip(values, shapes, strict=True)]
        shaped[2] = nn.Parameter(values[2].reshape(2, 3).T.contiguous().T)
        assert not shaped[2].is_contiguous()

        def loss(vector: torch.Tensor) -> torch.Tensor:
            return (torch.sin(3 * vector) * torch.arange(len(vector))).sum() + (vector.sum() - 1) ** 4

        SharpnessAware(create(name), [flat]).backward(lambda: loss(flat))
        SharpnessAware(create(name), shaped).backward(lambda: loss(torch.cat([each.flatten() for each in shaped])))
        assert all(each.grad.shape == each.shape for each in shaped)
        torch.testing.assert_close(torch.cat([each.grad.flatten() for each in shaped]), flat.grad, rtol=0, atol=1e-10)

    @every_rule
    def test_a_parameter_that_the_loss_does_not_need_changes_nothing(self, name):
        """Otherwise an unused prompt (of a branch not taken in this step) stops training or disturbs it."""
        model = Classifier()
        unused = nn.Parameter(torch.ones(7, dtype=torch.float64))
        SharpnessAware(create(name), [unused, *model.parameters()]).backward(model.loss)
        assert torch.equal(unused.grad, torch.zeros(7, dtype=torch.float64))
        torch.testing.assert_close(model.directions(), direction(name), rtol=0, atol=1e-12)

    @every_rule
    def test_frozen_parameters_get_no_gradient(self, name):
        """Otherwise CLIP itself would be trained, and hold memory for it."""
        model = Classifier()
        direction(name, model)
        assert model.frozen.grad is None

    @every_rule
    def test_the_unperturbed_loss_is_returned(self, name):
        """Otherwise logged losses are not comparable between rules."""
        model = Classifier()
        sharp = SharpnessAware(create(name), model.parameters())
        loss = sharp.backward(model.loss)
        assert torch.equal(loss, model.loss().detach())
        assert not loss.requires_grad

    @every_rule
    def test_it_is_added_to_the_gradients_that_are_there(self, name):
        """Otherwise a second loss's `backward()` before it is lost."""
        model = Classifier()
        model.bias.grad = torch.ones_like(model.bias)
        SharpnessAware(create(name), model.parameters()).backward(model.loss)
        expected = direction(name)
        expected[-3:] += 1
        torch.testing.assert_close(model.directions(), expected, rtol=0, atol=1e-12)

    @every_rule
    def test_a_loop_may_run_the_backward_pass_itself(self, name):
        """Otherwise the Trainer, which does, follows another direction than the plain loop."""
        model = Classifier()

        def backward_pass() -> torch.Tensor:
            loss = model.loss()
            loss.backward()
            return loss.detach()

        loss = SharpnessAware(create(name), model.parameters()).accumulate_direction(backward_pass)
        assert torch.equal(loss, model.loss().detach())
        assert torch.equal(model.directions(), direction(name))


class TestNothingLeaks:
    @every_rule
    def test_parameters_have_the_same_bits_after_a_step(self, name):
        """Otherwise rounding errors of perturbing and restoring add up over thousands of steps."""
        model = Classifier(torch.float32)
        before = model.bits()
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.0)
        sharp = SharpnessAware(create(name), model.parameters())
        for _ in range(3):
            sharp.backward(model.loss)
            optimizer.step()
        assert_same_bits(model.bits(), before)

    @every_evaluation_of_every_rule
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("held", [True, False], ids=["gradients held", "no gradients"])
    def test_a_closure_that_raises_leaves_everything_as_it_was(self, name, evaluation, error, held):
        """Otherwise catching an out-of-memory error, or Ctrl-C in a notebook, leaves a perturbed model behind."""
        model = Classifier()
        if held:
            model.loss().backward()
        gradients = [each.grad for each in model.parameters()]
        values = [None if each is None else each.clone() for each in gradients]
        before, calls = model.bits(), []

        def raise_in_time() -> torch.Tensor:
            calls.append(None)
            if len(calls) > evaluation:
                raise error("out of memory")
            return model.loss(slice(3, 6))

        sharp = SharpnessAware(create(name), model.parameters())
        with pytest.raises(error, match="out of memory"):
            sharp.backward([lambda: model.loss(slice(0, 3)), raise_in_time])
        assert_same_bits(model.bits(), before)
        for parameter, gradient, value in zip(model.parameters(), gradients, values, strict=True):
            assert parameter.grad is gradient
            assert value is None or torch.equal(gradient, value)
        assert sharp.pop_metrics() == {}
        model.zero_grad()
        sharp.backward(model.loss)
        assert torch.equal(model.directions(), direction(name)), "and the next step is as ever"

    @every_evaluation_of_every_rule
    @pytest.mark.parametrize("factor", [math.inf, math.nan])
    def test_a_gradient_that_is_not_finite_leaves_the_parameters_alone(self, name, evaluation, factor):
        """Otherwise one bad batch leaves NaN in the prompt, even with a learning rate of zero."""
        model = Classifier()
        before, calls = model.bits(), []

        def loss() -> torch.Tensor:
            calls.append(None)
            return model.loss() * (factor if len(calls) == evaluation + 1 else 1)

        SharpnessAware(create(name), model.parameters()).backward(loss)
        assert_same_bits(model.bits(), before)
        assert not model.directions().isfinite().all(), "clipping and scalers can see that the step failed"

    @pytest.mark.parametrize("evaluation", [0, 1])
    @pytest.mark.parametrize("first_step", [True, False], ids=["first step", "later step"])
    @pytest.mark.parametrize("failure", [math.nan, math.inf, RuntimeError])
    def test_a_failed_step_leaves_the_rules_state_alone(self, momentum, evaluation, first_step, failure):
        """Otherwise one overflow poisons the rule's memory for the rest of the run."""
        model = Classifier()
        sharp = SharpnessAware(momentum, model.parameters())
        if not first_step:
            sharp.backward(model.loss)
        held = {name: tensor.clone() for name, tensor in sharp.state_dict().items()}
        calls = []

        def loss() -> torch.Tensor:
            calls.append(None)
            if len(calls) != evaluation + 1:
                return model.loss()
            if failure is RuntimeError:
                raise RuntimeError
            return model.loss() * failure

        model.zero_grad()
        if failure is RuntimeError:
            with pytest.raises(RuntimeError):
                sharp.backward(loss)
        else:
            sharp.backward(loss)
            assert not model.directions().isfinite().any(), "no step is taken in a direction the state ignores"
        assert sharp.state_dict().keys() == held.keys()
        assert all(torch.equal(tensor, held[name]) for name, tensor in sharp.state_dict().items())


class TestRandomness:
    @every_rule
    def test_all_evaluations_of_a_step_see_the_same_dropout_masks(self, name):
        """Otherwise the difference between two masks is taken for sharpness."""
        model = Classifier(dropout=0.5)
        losses = []

        def part(rows: slice) -> torch.Tensor:
            loss = model.loss(rows)
            losses.append(float(loss.detach()))
            return loss

        closures = [lambda: part(slice(0, 3)), lambda: part(slice(3, 6))]
        sharp = SharpnessAware(without(name, "rho"), model.parameters())
        sharp.backward(closures)
        first_step = losses[:2]
        assert losses == first_step * evaluations(name)
        sharp.backward(closures)
        assert losses[-2:] != first_step, "the next step has masks of its own"

    @every_rule
    def test_a_step_draws_as_many_random_numbers_as_one_evaluation(self, name):
        """Otherwise runs with and without a rule differ in the order of their data, and cannot be compared."""
        model = Classifier(dropout=0.5)
        state = torch.get_rng_state()
        model.loss()
        expected = torch.get_rng_state()
        torch.set_rng_state(state)
        SharpnessAware(create(name), model.parameters()).backward(model.loss)
        assert torch.equal(torch.get_rng_state(), expected)


class TestState:
    def test_a_restored_rule_goes_on_with_the_same_bits(self, momentum, tmp_path):
        """Otherwise a run that was killed and resumed ends elsewhere."""

        def run(model: Classifier, sharp: SharpnessAware, steps: int) -> None:
            for _ in range(steps):
                model.zero_grad()
                sharp.backward(model.loss)
                with torch.no_grad():
                    for each in model.parameters():
                        each -= 0 if each.grad is None else 0.1 * each.grad

        through = Classifier()
        run(through, SharpnessAware(momentum, through.parameters()), 6)

        model = Classifier()
        sharp = SharpnessAware(create("momentum"), model.parameters())
        assert sharp.state_dict() == {}
        run(model, sharp, 3)
        save_file(sharp.state_dict(), tmp_path / "rule.safetensors")
        for restore in (True, False):
            resumed = Classifier()
            resumed.load_state_dict(model.state_dict())
            sharp = SharpnessAware(create("momentum"), resumed.parameters())
            if restore:
                sharp.load_state_dict(load_file(tmp_path / "rule.safetensors"))
            run(resumed, sharp, 3)
            same = [torch.equal(one, other) for one, other in zip(resumed.bits(), through.bits(), strict=True)]
            assert all(same) == restore

    @every_rule
    def test_what_is_reported_is_the_mean_over_the_steps(self, name):
        """Otherwise the sharpness in the logs is not what the rule saw."""
        curvature = torch.tensor([1.0, 4.0], dtype=torch.float64)
        w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

        def loss(at: torch.Tensor = w) -> torch.Tensor:
            return (curvature * at**2).sum() / 2

        sharp = SharpnessAware(create(name), [w])
        rho = getattr(sharp.rule, "rho", 0)
        expected: dict[str, list[float]] = {"loss": [], "gradient_norm": []}
        if evaluations(name) > 1:
            expected |= {"perturbed_loss": [], "sharpness": [], "cosine": []}
        for point in ([1.0, 1.0], [0.5, -2.0]):
            with torch.no_grad():
                w.copy_(torch.tensor(point))
            sharp.backward(loss)
            here = w.detach()
            g = curvature * here
            there = here + rho * g / g.norm()
            g_p = curvature * there
            values = {
                "loss": loss(here),
                "gradient_norm": g.norm(),
                "perturbed_loss": loss(there),
                "sharpness": loss(there) - loss(here),
                "cosine": g @ g_p / (g.norm() * g_p.norm()),
            }
            for key, found in expected.items():
                found.append(float(values[key]))
        metrics = sharp.pop_metrics()
        shares = {key: metrics.pop(key) for key in list(metrics) if key.startswith("branch_")}
        assert metrics == pytest.approx({key: sum(values) / 2 for key, values in expected.items()}, abs=1e-10)
        assert sharp.pop_metrics() == {}, "reported once"
        if name == "gcsam":  # the two gradients are all but parallel here
            assert shares == {"branch_gradient": 0, "branch_bisector": 0, "branch_perturbed": 1}


class Scaled:
    """What `SharpnessAware` knows of an `Accelerator` with fp16 mixed precision."""

    num_processes = 1
    distributed_type = DistributedType.NO
    gradient_accumulation_steps = 1

    def __init__(self) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)

    def backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()


class TestLossScaling:
    @every_rule
    def test_directions_are_those_without_scaling(self, name):
        """Otherwise rho is divided by the loss scale, and fp16 runs follow another direction."""
        model, accelerator = Classifier(torch.float32), Scaled()
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
        sharp = SharpnessAware(create(name), model.parameters(), accelerator)
        loss = sharp.backward([lambda: model.loss(slice(0, 3)), lambda: model.loss(slice(3, 6))])
        accelerator.scaler.unscale_(optimizer)
        expected = direction(name, Classifier(torch.float32))
        torch.testing.assert_close(model.directions(), expected, rtol=0, atol=1e-5 * float(expected.norm()))
        torch.testing.assert_close(loss, model.loss().detach())
        assert sharp.pop_metrics()["gradient_norm"] == pytest.approx(float(direction("none").norm()), rel=1e-5)

    @pytest.mark.parametrize(
        ("name", "evaluation"),
        [(name, number) for name in names() for number in range(evaluations(name))]
        + [("momentum", 0), ("momentum", 1)],
    )
    def test_an_overflow_skips_the_step_and_training_goes_on(self, momentum, name, evaluation):
        """Otherwise fp16 training ends in NaN at the first overflow, or steps in half a direction."""
        model, accelerator = Classifier(torch.float32), Scaled()
        scaler = accelerator.scaler
        trained = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
        sharp = SharpnessAware(create(name), trained, accelerator)

        def step(overflow_in: int | None = None) -> None:
            calls = []

            def loss() -> torch.Tensor:
                calls.append(None)
                return model.loss() * (1e38 if len(calls) - 1 == overflow_in else 1)

            optimizer.zero_grad()
            sharp.backward(loss)
            scaler.step(optimizer)
            scaler.update()

        step()
        before, state, scale = model.bits(), sharp.state_dict(), scaler.get_scale()
        buffers = [optimizer.state[each]["momentum_buffer"].clone() for each in trained]
        step(overflow_in=evaluation)
        assert_same_bits(model.bits(), before)
        assert_same_bits([optimizer.state[each]["momentum_buffer"] for each in trained], buffers)
        assert sharp.state_dict().keys() == state.keys()
        assert_same_bits(list(sharp.state_dict().values()), list(state.values()))
        assert scaler.get_scale() == scale / 2
        step()
        assert not torch.equal(model.first, before[1])
        assert all(each.isfinite().all() for each in model.parameters())


@pytest.fixture
def accelerators() -> Iterator[Callable[..., Accelerator]]:
    """Makes real ones on the CPU, and afterwards removes what they leave in the process."""
    yield lambda **settings: Accelerator(cpu=True, **settings)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class TestProcesses:
    @every_rule
    def test_an_accelerator_of_one_process_changes_nothing(self, accelerators, name):
        """Otherwise a script behaves differently under `accelerate launch`."""
        model = Classifier()
        sharp = SharpnessAware(create(name), model.parameters(), accelerators())
        sharp.backward(model.loss)
        assert torch.equal(model.directions(), direction(name))

    def test_two_processes_give_the_same_parameters_as_one(self, tmp_path):
        """Otherwise what is learned depends on the number of GPUs."""
        script = tmp_path / "train.py"
        script.write_text(dedent(TWO_PROCESSES))
        path = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", script],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        expected = [f"{name} {kind} {rank}" for name in names() for kind in ("bare", "DDP") for rank in (0, 1)]
        assert sorted(done.stdout.split("\n")[:-1]) == sorted(expected)


TWO_PROCESSES = """
    import torch
    from accelerate import Accelerator
    from torch.nn.parallel import DistributedDataParallel

    from hf_sharp_prompt.sharpness import SharpnessAware, create, names
    from test_aware import Classifier

    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    assert accelerator.num_processes == torch.distributed.get_world_size() == 2

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = Classifier()

        def forward(self, rows):
            return self.classifier.loss(rows)

    def train(name, rank=None, wrap=False):
        torch.manual_seed(0)
        model = Loss()
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1, momentum=0.9)
        if wrap:
            model, optimizer = accelerator.prepare(model, optimizer)
            assert isinstance(model, DistributedDataParallel)
        sharp = SharpnessAware(create(name), model.parameters(), None if rank is None else accelerator)
        losses = []
        for step in range(4):
            rows = [(step + row) % 6 for row in range(4)]  # 4 of the 6
            if rank is None:
                closures = [lambda: model(rows)]
            else:  # of this process's 2, as 2 micro-batches; the processes' mean of the sums, so twice a row's share
                closures = [lambda row=row: 2 * model([row]) for row in rows[2 * rank : 2 * rank + 2]]
            optimizer.zero_grad()
            losses.append(sharp.backward(closures))
            optimizer.step()
        parameters = [each.detach() for each in model.parameters()]
        metrics = torch.tensor(list(sharp.pop_metrics().values()), dtype=torch.float64)
        return [*parameters, torch.stack(losses), metrics]

    for name in names():
        expected = train(name)
        for kind in ("bare", "DDP"):
            for one, other in zip(train(name, rank, wrap=kind == "DDP"), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
            for each in range(2):
                if each == rank:
                    print(name, kind, rank, flush=True)
                accelerator.wait_for_everyone()
    accelerator.end_training()
"""


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
        sharp = SharpnessAware(create(name), model.parameters())
        with pytest.raises(ValueError, match=r"loss does not depend on any trainable parameter\. It must"):
            sharp.backward(lambda: constant(model))
        other = nn.Parameter(torch.ones(1))
        with pytest.raises(ValueError, match="No gradient reached the trainable parameters"):
            sharp.backward(lambda: other.sum())
        assert all(each.grad is None for each in model.parameters())

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
