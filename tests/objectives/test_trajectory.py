"""SAF and MESA: the terms are the paper's, whatever the batches, and nothing leaks out of a step that fails."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.objectives import Batch, Objective, ObjectiveSum, create
from hf_sharp_prompt.sharpness import SharpnessAware
from hf_sharp_prompt.sharpness import create as create_rule


SAMPLES, CLASSES, BATCH = 12, 3, 4
SETTINGS = {"saf": {"epochs_ago": 2, "start": 3, "temperature": 2.0}, "mesa": {"decay": 0.7, "start": 1}}
every_objective = pytest.mark.parametrize("name", SETTINGS)


class Classifier(nn.Module):
    """A small non-convex problem, its data with it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
        self.inputs, self.labels = draw(SAMPLES, 5), torch.arange(SAMPLES) % CLASSES
        self.frozen = nn.Parameter(draw(5, 5), requires_grad=False)
        self.first, self.second = nn.Parameter(draw(5, 4)), nn.Parameter(draw(4, CLASSES))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.tanh(x @ self.frozen @ self.first)) @ self.second

    def values(self) -> torch.Tensor:
        return torch.cat([self.first.detach().flatten(), self.second.detach().flatten()])


def batches(epoch: int) -> list[torch.Tensor]:
    """The epoch's batches, as indices: another order in each."""
    return list(torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch)).split(BATCH))


def loss_of(model: nn.Module, rows: torch.Tensor, objectives: ObjectiveSum, size: int = BATCH) -> torch.Tensor:
    logits = model(model.inputs[rows])
    loss = cross_entropy(logits, model.labels[rows], reduction="sum") / size
    return loss + objectives.term(Batch(model, {"x": model.inputs[rows]}, logits, model.labels[rows], rows, size))


def train(
    objectives: ObjectiveSum, model: Classifier, epochs: range, micro_batch: int = BATCH, rule: str = "none"
) -> torch.Tensor:
    """The parameters after each step."""
    optimizer = torch.optim.SGD([model.first, model.second], lr=0.5)
    sharp = SharpnessAware(create_rule(rule), model.parameters())
    trajectory = []
    for epoch in epochs:
        for rows in batches(epoch):
            objectives.begin_step(model, epoch)
            sharp.backward([lambda part=part: loss_of(model, part, objectives) for part in rows.split(micro_batch)])
            optimizer.step()
            optimizer.zero_grad()
            objectives.end_step(model)
            trajectory.append(model.values())
    return torch.stack(trajectory)


def make(name: str) -> ObjectiveSum:
    return ObjectiveSum([create(name, **SETTINGS[name])])


def softmax(logits: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def divergence(past: torch.Tensor, now: torch.Tensor, temperature: float) -> float:
    """T²·KL(past ‖ now), number by number."""
    p, q = softmax(past.tolist(), temperature), softmax(now.tolist(), temperature)
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def numerical_gradient(loss, values: torch.Tensor) -> torch.Tensor:
    """By central differences of the fourth order."""
    gradient = torch.zeros_like(values)
    for each in range(len(values)):
        step = torch.zeros_like(values)
        step[each] = 1e-3
        gradient[each] = 8 * (loss(values + step) - loss(values - step)) - (
            loss(values + 2 * step) - loss(values - 2 * step)
        )
    return gradient / 12e-3


def predict(model: Classifier, values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    first, second = values[:20].view(5, 4), values[20:].view(4, CLASSES)
    return torch.tanh(model.inputs[rows] @ model.frozen @ first) @ second


@every_objective
def test_training_follows_the_papers_equation(name):
    """Otherwise figures obtained here are not the method's; a slow loop, with the loss's gradient by differences."""
    model = Classifier()
    weight, temperature = create(name).weight, SETTINGS[name].get("temperature", 5.0)
    actual = train(make(name), model, range(6))
    model = Classifier()
    w, past_logits, mean, step = model.values(), {}, model.values(), 0
    for epoch in range(6):
        for rows in batches(epoch):

            def loss(values: torch.Tensor, rows=rows, epoch=epoch, mean=mean, past=past_logits) -> torch.Tensor:
                logits = predict(model, values, rows)
                total = sum(
                    -math.log(softmax(z.tolist(), 1)[label]) for z, label in zip(logits, model.labels[rows].tolist())
                )
                if epoch >= SETTINGS[name]["start"]:
                    teacher = (
                        predict(model, mean, rows)
                        if name == "mesa"
                        else [past[epoch - 2, row] for row in rows.tolist()]
                    )
                    total += weight * sum(divergence(p, z, temperature) for p, z in zip(teacher, logits, strict=True))
                return torch.tensor(total / len(rows), dtype=torch.float64)

            past_logits |= {(epoch, row): z for row, z in zip(rows.tolist(), predict(model, w, rows), strict=True)}
            w = w - 0.5 * numerical_gradient(loss, w)
            mean = 0.7 * mean + 0.3 * w
            torch.testing.assert_close(actual[step], w, rtol=0, atol=1e-6)  # the differences' error
            step += 1
    assert (actual - train(ObjectiveSum([]), Classifier(), range(6))).abs().max() > 1e-3, "the term matters"


@every_objective
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
@pytest.mark.parametrize("rule", ["none", "sam"])
def test_micro_batches_make_one_batch(name, micro_batch, rule):
    """Otherwise what is learned depends on how much fits the memory at a time; also composed with a rule."""
    whole, parts = make(name), make(name)
    expected = train(whole, Classifier(), range(5), rule=rule)
    actual = train(parts, Classifier(), range(5), micro_batch, rule)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    assert parts.pop_metrics() == pytest.approx(whole.pop_metrics(), abs=1e-12)


@every_objective
def test_its_part_of_the_loss_is_reported(name):
    """Otherwise nobody can see whether λ is in proportion: the mean over the steps since the last report."""
    objectives, model, terms = make(name), Classifier(), []
    train(objectives, model, range(5))
    objectives.pop_metrics()
    for rows in batches(5):
        objectives.begin_step(model, 5)
        loss = loss_of(model, rows, objectives)
        terms.append(float(loss.detach() - cross_entropy(model(model.inputs[rows]), model.labels[rows]).detach()))
        objectives.end_step(model)
    assert min(terms) >= 0
    assert objectives.pop_metrics() == {f"{name}_loss": pytest.approx(sum(terms) / 3, abs=1e-12)}
    assert objectives.pop_metrics() == {}


@every_objective
@pytest.mark.parametrize("epoch", [1, 5])
def test_a_step_that_is_not_taken_changes_nothing(name, epoch):
    """Otherwise later steps stay close to an overflow's logits, or to those of a batch for which memory ran out."""
    objectives, undisturbed = make(name), make(name)
    model, other = Classifier(), Classifier()
    train(objectives, model, range(epoch))
    train(undisturbed, other, range(epoch))
    before = {key: tensor.clone() for key, tensor in objectives.state_dict().items()}
    for rows in ([0, 1], [3]):  # as a scaler skips steps until the scale fits
        objectives.begin_step(model, epoch)
        (loss_of(model, torch.tensor(rows), objectives) * math.nan).backward()
        model.zero_grad()
    assert objectives.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in objectives.state_dict().items())
    after, expected = (train(*each, range(epoch, epoch + 4)) for each in ((objectives, model), (undisturbed, other)))
    assert torch.equal(after, expected)
    assert objectives.pop_metrics() == undisturbed.pop_metrics()


@every_objective
def test_a_restored_run_ends_on_the_same_bits(name, tmp_path):
    """Preemption must not show in the result."""
    through = train(make(name), Classifier(), range(8))
    objectives, model = make(name), Classifier()
    train(objectives, model, range(4))
    save_file(objectives.state_dict(), tmp_path / "state.safetensors")
    for restore in (True, False):
        resumed, weights = make(name), copy.deepcopy(model)
        if restore:
            resumed.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(train(resumed, weights, range(4, 8))[-1], through[-1]) == restore


class TestMESA:
    def step(self, model: nn.Module) -> tuple[ObjectiveSum, torch.Tensor]:
        objectives = ObjectiveSum([create("mesa", decay=0.5, start=0)])
        objectives.begin_step(model, 0)
        loss_of(model, torch.arange(4), objectives).backward()
        with torch.no_grad():
            model.first += 1
        objectives.end_step(model)
        objectives.begin_step(model, 0)
        return objectives

    def test_the_model_has_its_own_weights_back(self):
        """Also after an interrupt in the middle of the other weights' forward pass."""
        model = Classifier(dropout=0.5)
        objectives, before, calls = self.step(model), [each.clone() for each in model.parameters()], []
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

    def test_it_draws_no_random_numbers(self):
        """Otherwise masks, and the order of the data, differ between runs with and without it."""
        model = Classifier(dropout=0.5)
        objectives = self.step(model)
        state = torch.get_rng_state()
        model(model.inputs[:4])
        expected = torch.get_rng_state()
        torch.set_rng_state(state)
        loss_of(model, torch.arange(4), objectives)
        assert torch.equal(torch.get_rng_state(), expected)

    def test_it_keeps_running_statistics(self):
        """Batch normalisation must not learn those of the mean's activations."""
        model = Classifier()
        model.dropout = nn.BatchNorm1d(4).double()
        objectives = self.step(model)
        count = int(model.dropout.num_batches_tracked)
        loss_of(model, torch.arange(4), objectives)
        assert int(model.dropout.num_batches_tracked) == count + 1


class TestSAF:
    def run(self, objective: Objective, epoch: int, rows: list[int], logits: torch.Tensor, **batch) -> torch.Tensor:
        index = torch.tensor(rows)
        objective.epoch = epoch
        objective.begin_step(nn.Identity())
        term = objective.term(Batch(nn.Identity(), {}, logits[: len(rows)], index=index, **batch))
        objective.end_step(nn.Identity())
        return term

    def test_samples_that_were_not_seen_then_add_nothing(self):
        """Otherwise a sampler that leaves some out, or a larger data set on resuming, compares with noise."""
        saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), torch.randn(4, 3, dtype=torch.float64)
        assert self.run(saf, 0, [0, 5], z) == 0
        other = torch.randn(4, 3, dtype=torch.float64)
        expected = (divergence(z[0], other[0], 5) + divergence(z[1], other[3], 5)) / 4
        assert float(self.run(saf, 1, [0, 9, 7, 5], other)) == pytest.approx(expected, abs=1e-12)
        assert self.run(saf, 2, [3], z) == 0

    def test_of_a_sample_that_comes_twice_the_first_time_counts(self):
        """As with samplers that draw with replacement: in one batch, or in two of an epoch."""
        saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), torch.randn(4, 3, dtype=torch.float64)
        self.run(saf, 0, [2, 2, 1], z)
        self.run(saf, 0, [1, 2], torch.zeros(4, 3, dtype=torch.float64))
        assert torch.equal(saf.state["logits"][0, [2, 1]], z[[0, 2]])

    def test_ignored_samples_are_neither_counted_nor_remembered(self):
        """As those that Accelerate repeats to fill the last share."""
        saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), torch.randn(4, 3, dtype=torch.float64)
        self.run(saf, 0, [0, 1], z, labels=torch.tensor([2, -100]))
        assert saf.state["epochs"].tolist() == [[0]]
        term = self.run(saf, 1, [0, 1], z.flip(0), labels=torch.tensor([2, -100]))
        assert float(term) == pytest.approx(divergence(z[0], z[3], 5), abs=1e-12)
        assert self.run(saf, 2, [0], z, labels=torch.tensor([-100])) == 0

    def test_logits_of_earlier_epochs_than_needed_are_not_kept(self):
        """Memory is what SAF costs."""
        saf = create("saf")
        self.run(saf, 2, [0, 1], torch.zeros(4, 3))
        assert saf.state == {}
        self.run(saf, 3, [0, 1], torch.zeros(4, 3))
        assert saf.state["logits"].shape == (3, 2, 3)

    def test_without_an_index_it_says_what_is_missing(self):
        saf = create("saf")
        saf.begin_step(nn.Identity())
        with pytest.raises(ValueError, match="saf remembers each sample's logits: give the Batch its samples' index"):
            saf.term(Batch(nn.Identity(), {}, torch.zeros(2, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_single_precision(dtype):
    """Otherwise the term of two nearly equal distributions is rounding noise."""
    saf, z = create("saf", epochs_ago=1, start=0, weight=1.0), 10 * torch.randn(4, 3).to(dtype)
    other, run = (z.float() + 1).to(dtype) + z.flip(0) / 64, TestSAF().run
    run(saf, 0, [0, 1, 2, 3], z)
    expected = sum(divergence(p, q, 5) for p, q in zip(z.double(), other.double(), strict=True)) / 4
    assert float(run(saf, 1, [0, 1, 2, 3], other)) == pytest.approx(expected, rel=1e-3)


def test_defaults_are_the_papers():
    """Otherwise a run without arguments is not the published method."""
    assert repr(create("saf")) == "SAF(weight=0.3, temperature=5.0, epochs_ago=3, start=6)"
    assert repr(create("mesa")) == "MESA(weight=0.8, temperature=5.0, decay=0.9995, start=6)"
