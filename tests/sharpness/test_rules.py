"""What each rule computes, against published trajectories and by hand, and how it is chosen by name."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.sharpness import SharpnessAware, SharpnessRule, create, names
from hf_sharp_prompt.sharpness.rule import Gradient, hyperparameter


UPDATES = json.loads((Path(__file__).parents[1] / "golden" / "updates.json").read_text())
CASES = [case for case in UPDATES["cases"] if case["rule"] in names()]


def directed(rule: SharpnessRule, g: list[float], g_p: list[float]) -> torch.Tensor:
    """The direction that a rule makes of the gradient at the current point and that anywhere else."""
    return rule.direction(lambda offset=None: torch.tensor(g if offset is None else g_p, dtype=torch.float64))


def degrees(angle: float) -> list[float]:
    """A vector of length 2 in that direction."""
    return [2 * math.cos(math.radians(angle)), 2 * math.sin(math.radians(angle))]


def test_rules_are_listed_by_name():
    """Otherwise the choices that a user is shown are wrong."""
    assert names() == sorted(names())
    assert {"none", "sam", "gcsam"} <= set(names())
    assert all(create(name).name == name for name in names())


@pytest.mark.parametrize("case", CASES, ids=[f"{case['rule']} {case['hyperparameters']}" for case in CASES])
def test_a_rule_follows_the_published_trajectory(case: dict[str, Any]):
    """Otherwise figures obtained here are not those of the method they are reported for."""
    problem = UPDATES["problem"]
    tensors = {name: torch.tensor(problem[name], dtype=torch.float64) for name in ("X", "A", "B", "c")}
    trained = [tensors[name].requires_grad_() for name in case["trainable"]]
    sharp = SharpnessAware(create(case["rule"], **case["hyperparameters"]), trained)
    settings = {name: problem["optimizer"][name] for name in ("lr", "momentum", "weight_decay")}
    optimizer = torch.optim.SGD(trained, **settings)
    size, labels = problem["batch_size"], torch.tensor(problem["y"])
    for step, (expected_loss, expected) in enumerate(zip(case["losses"], case["trajectory"], strict=True)):
        rows = torch.arange(size * step, size * (step + 1)) % len(labels)

        def loss(rows=rows) -> torch.Tensor:
            hidden = torch.tanh(tensors["X"][rows] @ tensors["A"])
            return cross_entropy(hidden @ tensors["B"] + tensors["c"], labels[rows])

        optimizer.zero_grad()
        assert float(sharp.backward(loss)) == pytest.approx(expected_loss, abs=1e-10)
        optimizer.step()
        for name, tensor in zip(case["trainable"], trained, strict=True):
            values = torch.tensor(expected[name], dtype=torch.float64)
            torch.testing.assert_close(tensor.detach(), values, rtol=0, atol=1e-10)
    assert step == 11


@pytest.mark.parametrize("name", names())
def test_a_zero_gradient_gives_a_zero_direction(name):
    """Otherwise one batch that is classified perfectly turns the prompt into NaN."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.0]))
    sharp = SharpnessAware(create(name), [parameter])
    sharp.backward(lambda: (0 * parameter).sum())
    assert torch.equal(parameter.grad, torch.zeros(3))
    assert all(math.isfinite(value) for value in sharp.pop_metrics().values())


@pytest.mark.parametrize("name", ["sam", "gcsam"])
def test_the_perturbation_goes_up_the_gradient_by_rho(name):
    """Otherwise rho is not the radius that papers report."""
    offsets = []

    def gradient(offset: torch.Tensor | None = None) -> torch.Tensor:
        offsets.append(offset)
        return torch.tensor([3.0, 0.0, -4.0], dtype=torch.float64)

    create(name, rho=0.5).direction(gradient)
    assert offsets[0] is None
    expected = torch.tensor([0.3, 0.0, -0.4], dtype=torch.float64)
    torch.testing.assert_close(offsets[1], expected, rtol=0, atol=1e-10)
    assert len(offsets) == 2


@pytest.mark.parametrize(
    ("angle", "branch"),
    [(0, "perturbed"), (30, "perturbed"), (45, "bisector"), (55, "bisector"), (65, "gradient"), (180, "gradient")],
)
def test_gcsam_goes_by_the_angle_between_the_gradients(angle, branch):
    """Otherwise its three branches, cos ≤ 0.5, between and ≥ 0.8, are confused."""
    rule = create("gcsam")
    direction = directed(rule, degrees(0), degrees(angle))
    half = 2 * math.cos(math.radians(angle / 2))  # the length of g_p's projection on the bisector
    bisector = [value / 2 * half for value in degrees(angle / 2)]
    expected = {"gradient": degrees(0), "bisector": bisector, "perturbed": degrees(angle)}[branch]
    torch.testing.assert_close(direction, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
    assert {name for name, taken in rule.reported.items() if taken} == {f"branch_{branch}"}


@pytest.mark.parametrize("low", [0.0, -0.5])
@pytest.mark.parametrize("angle", [100, 150, 180])
def test_gcsam_without_a_lower_bound_never_follows_the_gradient_alone(low, angle):
    """Otherwise the ablation without that branch is no such thing; opposite gradients must not give NaN either."""
    rule = create("gcsam", low=low)
    direction = directed(rule, degrees(0), degrees(angle))
    assert rule.reported["branch_bisector"]
    half = 2 * math.cos(math.radians(angle / 2))
    expected = [value / 2 * half for value in degrees(angle / 2)]
    torch.testing.assert_close(direction, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "defaults"),
    [("none", {}), ("sam", {"rho": 0.05}), ("gcsam", {"rho": 0.1, "low": 0.5, "high": 0.8})],
)
def test_defaults_are_the_papers(name, defaults):
    """Otherwise a run without arguments is not the published method."""
    assert vars(create(name)) == {**defaults, "state": {}, "reported": {}}


class TestErrors:
    """Otherwise a typing error runs for hours as another method, or with another radius."""

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [("gscam", "; did you mean 'gcsam'?"), ("SAM", "; did you mean 'sam'?"), ("qqqqq", ".")],
    )
    def test_an_unknown_rule(self, name, nearest):
        with pytest.raises(ValueError, match="no sharpness rule") as raised:
            create(name)
        assert str(raised.value) == f"There is no sharpness rule {name!r}{nearest} Known are: {', '.join(names())}."

    def test_an_unknown_hyperparameter(self):
        with pytest.raises(ValueError, match=r"sam has no .* 'roh'; did you mean 'rho'\? It takes: rho=0.05\."):
            create("sam", roh=0.1)
        with pytest.raises(ValueError, match=r"none has no hyperparameter 'rho'\. It takes: none\."):
            create("none", rho=0.1)

    @pytest.mark.parametrize("rho", [-0.1, math.nan, math.inf, "0.05", True, None, [0.05]])
    @pytest.mark.parametrize("name", ["sam", "gcsam"])
    def test_a_radius_that_is_none(self, name, rho):
        with pytest.raises(ValueError, match="rho must be") as raised:
            create(name, rho=rho)
        assert str(raised.value) == f"{name}: rho must be a finite number >= 0, got {rho!r}."

    def test_bounds_of_a_cosine(self):
        with pytest.raises(ValueError, match=r"gcsam: high must be a finite number >= -1 and <= 1, got 1.5"):
            create("gcsam", high=1.5)
        with pytest.raises(ValueError, match=r"gcsam: low must not exceed high, got low=0.9 and high=0.8"):
            create("gcsam", low=0.9)

    def test_an_open_bound(self, monkeypatch):
        """For rules that divide by a hyperparameter."""
        monkeypatch.setattr(SharpnessRule, "registry", dict(SharpnessRule.registry))

        @dataclass
        class Positive(SharpnessRule, name="positive"):
            scale: float = hyperparameter(1.0, above=0, high=2, help="")

            def direction(self, gradient: Gradient) -> torch.Tensor:
                return gradient() / self.scale

        assert create("positive", scale=2).scale == 2
        for scale in (0, 2.5):
            with pytest.raises(ValueError, match=r"scale must be a finite number > 0 and <= 2, got"):
                create("positive", scale=scale)
