"""SAF and MESA: the terms are the paper's, whatever the batches, and nothing leaks out of a step that fails."""

import copy
import math

import pytest
import torch
from objectives.small_loop import (
    CLASSES,
    SETTINGS,
    Classifier,
    batches,
    divergence,
    loss_of,
    make,
    softmax,
    train,
)
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.objectives import ObjectiveSum, create


every_objective = pytest.mark.parametrize("name", SETTINGS)


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


def test_defaults_are_the_papers():
    """Otherwise a run without arguments is not the published method."""
    assert repr(create("saf")) == "SAF(weight=0.3, temperature=5.0, epochs_ago=3, start=6)"
    assert repr(create("mesa")) == "MESA(weight=0.8, temperature=5.0, decay=0.9995, start=6)"
