"""The report's figures are the loss's own: checked where the exact answer is known, and nothing is left changed."""

import random

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoTokenizer, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.sharpness import landscape, report


class Quadratic(nn.Module):
    """`L(w) = ½ wᵀHw + bᵀw`, whatever the batch."""

    def __init__(self, hessian: torch.Tensor, slope: torch.Tensor | None = None) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(hessian), dtype=hessian.dtype))
        self.hessian = hessian
        self.slope = torch.zeros_like(self.w.detach()) if slope is None else slope

    def forward(self) -> torch.Tensor:
        return self.w @ self.hessian @ self.w / 2 + self.slope @ self.w


class Net(nn.Module):
    """A small non-convex classifier with all that a measurement could disturb."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Tanh(), nn.Linear(6, 3))
        self.register_buffer("calls", torch.zeros(()))
        self.to(torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layers(x)


def quadratic(model: Quadratic, batch: torch.Tensor) -> torch.Tensor:
    return model()


def classification(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    x, labels = batch
    return cross_entropy(model(x), labels)


BATCHES = [torch.zeros(2), torch.zeros(3)]


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    return TensorDataset(x, torch.randint(3, (20,), generator=generator))


def random_hessian(eigenvalues: list[float]) -> torch.Tensor:
    size = len(eigenvalues)
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    basis, _ = torch.linalg.qr(noise)
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T


def exact_worst(hessian: torch.Tensor, slope: torch.Tensor, rho: float) -> float:
    """The largest of `½ εᵀHε + bᵀε` within rho of a convex quadratic: at `(λI - H)⁻¹b` of length rho, by bisection."""
    eigenvalues, basis = torch.linalg.eigh(hessian)
    rotated = basis.T @ slope
    low, high = float(eigenvalues[-1]), float(eigenvalues[-1] + slope.norm() / rho)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (rotated / (middle - eigenvalues)).norm() > rho else (low, middle)
    offset = rotated / (high - eigenvalues)
    return float((eigenvalues * offset**2).sum() / 2 + rotated @ offset)


def test_a_quadratic_is_measured_exactly():
    hessian, slope = random_hessian([0.1, 0.5, 1.0, 3.0, 4.0]), torch.tensor([0.3, -0.2, 0.5, 0.1, -0.4]).double()
    measured = report(
        Quadratic(hessian, slope),
        BATCHES,
        loss=quadratic,
        rhos=(2.0, 0.5),
        ascent_steps=200,
        directions=200,
        probes=200,
        tolerance=1e-9,
        max_iterations=1000,
    )
    assert measured.loss == 0
    assert measured.gradient_norm == pytest.approx(float(slope.norm()), rel=1e-12)
    assert measured.top_eigenvalue == pytest.approx(4.0, rel=1e-12)
    assert abs(measured.trace - 8.6) < 4 * measured.trace_error
    assert list(measured.within) == [0.5, 2.0]
    for rho, within in measured.within.items():
        assert within.worst == pytest.approx(exact_worst(hessian, slope, rho), rel=1e-6)
        assert abs(within.mean - rho**2 * 8.6 / 2 / 5) < 4 * within.mean_error


def test_the_trace_of_a_diagonal_hessian_is_exact():
    measured = report(Quadratic(torch.diag(torch.tensor([1.0, -2.0, 5.0]))), BATCHES, loss=quadratic, probes=2)
    assert (measured.trace, measured.trace_error) == (4.0, 0.0)


@pytest.mark.parametrize(
    "eigenvalues", [[-5.0, 0.5, 2.0], [-2.0, 0.5, 2.0], [-3.0, -2.0, -1.0], [0.0, 0.0, 0.0]], ids=str
)
def test_the_top_eigenvalue_is_the_largest_not_the_largest_in_magnitude(eigenvalues):
    """At a saddle, power iteration alone would report the most negative one, or a mixture of two."""
    measured = report(
        Quadratic(random_hessian(eigenvalues)), BATCHES, loss=quadratic, tolerance=1e-9, max_iterations=2000
    )
    assert measured.top_eigenvalue == pytest.approx(max(eigenvalues), rel=1e-6, abs=1e-12)
    assert measured.top_eigenvalue_error < 1e-6


def test_iterations_that_ran_out_show_in_the_error():
    measured = report(Quadratic(random_hessian([1.0, 1.9, 2.0])), BATCHES, loss=quadratic, max_iterations=2)
    assert measured.top_eigenvalue_error > 1e-3
    assert measured.top_eigenvalue < 2
    assert abs(measured.top_eigenvalue - 2) < 1


def test_at_the_minimum_itself_the_worst_point_is_still_found():
    """There the gradient is zero, so SAM's point is w."""
    hessian = random_hessian([0.1, 1.0, 3.0])
    measured = report(Quadratic(hessian), BATCHES, loss=quadratic, rhos=[0.5], ascent_steps=100)
    assert measured.within[0.5].worst == pytest.approx(0.5**2 * 3 / 2, rel=1e-6)


def test_a_linear_loss_has_no_curvature():
    measured = report(
        Quadratic(torch.zeros(2, 2), torch.ones(2)), BATCHES, loss=lambda model, batch: model.slope @ model.w
    )
    assert (measured.top_eigenvalue, measured.trace) == (0, 0)
    assert measured.within[0.5].worst == pytest.approx(0.5 * 2**0.5)


def test_the_hessian_of_a_network_is_that_of_autograd(net, data):
    measured = report(
        net,
        DataLoader(data, 7),
        loss=classification,
        probes=300,
        tolerance=1e-8,
        max_iterations=5000,
        ascent_steps=30,
    )
    net.eval()
    names, parameters = zip(*net.named_parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([parameter.numel() for parameter in parameters])
        values = {name: part.view_as(like) for name, part, like in zip(names, parts, parameters)}
        logits = torch.func.functional_call(
            net.layers, {name[7:]: value for name, value in values.items()}, data[:][0]
        )
        return cross_entropy(logits, data[:][1])

    hessian = torch.func.hessian(loss)(flat)
    assert measured.size == len(flat)
    assert measured.samples == 20
    assert measured.loss == pytest.approx(float(loss(flat)), rel=1e-12)
    assert measured.gradient_norm == pytest.approx(float(torch.func.grad(loss)(flat).norm()), rel=1e-12)
    assert measured.top_eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6)
    assert abs(measured.trace - float(hessian.trace())) < 4 * measured.trace_error
    worst = [measured.loss] + [within.worst for within in measured.within.values()]
    assert worst == sorted(worst)
    assert all(within.worst >= within.mean for within in measured.within.values())
    steepest = flat + 1.0 * torch.nn.functional.normalize(torch.func.grad(loss)(flat), dim=0)
    assert measured.within[1.0].worst > float(loss(steepest))


def test_every_sample_counts_the_same_however_they_are_batched(net, data):
    whole, uneven = (report(net, DataLoader(data, size), loss=classification) for size in (20, 7))
    of_samples = report(
        net, DataLoader(data, 7), loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1], reduction="none")
    )
    for other in (uneven, of_samples):
        assert other.samples == 20
        for name in ("loss", "gradient_norm", "top_eigenvalue", "trace", "trace_error"):
            assert getattr(other, name) == pytest.approx(getattr(whole, name), rel=1e-9)
        assert other.within[1.0].mean == pytest.approx(whole.within[1.0].mean, rel=1e-9)


def test_the_same_seed_gives_the_same_report(net, data):
    """Also from a loader that shuffles, and of a loss that draws random numbers."""

    def noisy(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        x, labels = batch
        return cross_entropy(model(x + 0.01 * torch.randn_like(x)), labels)

    reports = []
    for seed in (3, 3, 4):
        torch.rand(1)  # what was drawn before does not matter
        reports.append(report(net, DataLoader(data, 7, shuffle=True), loss=noisy, seed=seed))
    assert reports[0] == reports[1]
    assert reports[0].trace != reports[2].trace


def state_of(model: nn.Module) -> dict:
    return {
        "parameters and buffers": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": {name: each.grad for name, each in model.named_parameters()},
        "gradients' values": [each.grad.clone() for each in model.parameters() if each.grad is not None],
        "what trains": {name: each.requires_grad for name, each in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "generators": (torch.get_rng_state(), random.getstate(), np.random.get_state()),
    }


@pytest.mark.parametrize("measure", [report, landscape])
@pytest.mark.parametrize("ends", [None, RuntimeError, KeyboardInterrupt], ids=["normally", "error", "interrupt"])
def test_nothing_is_left_changed(measure, ends, net, data):
    """Measuring in the middle of a training run must not change the run, even if it is interrupted."""
    net.train()
    net.layers[2].eval()
    net.layers[0].bias.requires_grad_(False)
    classification(net, data[:]).backward()
    before, calls = state_of(net), []

    def loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        calls.append(torch.rand(1) + random.random() + np.random.rand())
        assert not any(module.training for module in model.modules())
        if ends is not None and len(calls) == 30:
            raise ends("in the middle")
        result = classification(model, batch)
        torch.autograd.backward(result, retain_graph=True) if result.requires_grad else None
        return result

    if ends is None:
        measure(net, DataLoader(data, 7, shuffle=True), loss=loss)
    else:
        with pytest.raises(ends):
            measure(net, DataLoader(data, 7, shuffle=True), loss=loss)
    assert len(calls) >= 30
    after = state_of(net)
    assert after["gradients"].keys() == before["gradients"].keys()
    assert all(after["gradients"][name] is grad for name, grad in before["gradients"].items())
    del after["gradients"], before["gradients"]
    torch.testing.assert_close(after.pop("gradients' values"), before.pop("gradients' values"), rtol=0, atol=0)
    torch.testing.assert_close(
        after.pop("parameters and buffers"), before.pop("parameters and buffers"), rtol=0, atol=0
    )
    of_torch, of_python, of_numpy = after.pop("generators")
    torch_before, python_before, numpy_before = before.pop("generators")
    assert torch.equal(of_torch, torch_before)
    assert of_python == python_before
    assert all(np.array_equal(now, then) for now, then in zip(of_numpy, numpy_before))
    assert after == before


def test_only_the_parameters_named_move(net, data):
    """A part of a network has its own surface, that of the part's block of the Hessian."""
    whole = report(net, DataLoader(data, 20), loss=classification)
    bias = net.layers[4].bias
    net.requires_grad_(False)
    named = report(net, DataLoader(data, 20), loss=classification, parameters=[bias, bias], tolerance=1e-8)
    bias.requires_grad_(True)
    trainable = report(net, DataLoader(data, 20), loss=classification, tolerance=1e-8)
    assert named == trainable
    assert named.size == 3
    assert named.top_eigenvalue < whole.top_eigenvalue
    net.eval()
    probabilities = net(data[:][0]).softmax(1).detach()
    hessian = torch.diag(probabilities.mean(0)) - probabilities.T @ probabilities / 20
    assert named.top_eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> str:
    """A saved prompt adapter for the demo's CLIP."""
    torch.manual_seed(0)  # made before the seed of a test is set, and so else another after other tests
    model = get_peft_model(CLIPModel.from_pretrained(CLIP_PATH), CLIPPromptConfig(num_text_tokens=2))
    model.set_classes(["red circle", "blue heart", "green star"], AutoTokenizer.from_pretrained(CLIP_PATH), "{}.")
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(path)
    return str(path)


def test_a_loaded_adapter_is_looked_at_in_its_own_parameters(adapter):
    """With fused attention, which has no second derivative."""
    model = PeftModel.from_pretrained(CLIPModel.from_pretrained(CLIP_PATH), adapter, is_trainable=True)
    model.load_adapter(adapter, "other")
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(9, 128, generator=generator), torch.arange(9) % 3
    batches = [
        {"image_features": features[rows], "labels": labels[rows]} for rows in (slice(0, 4), slice(4, 6), slice(6, 9))
    ]
    with torch.no_grad():
        loss = float(model(image_features=features, labels=labels).loss)
    brief = {"rhos": (0.05, 0.5), "ascent_steps": 3, "directions": 3, "probes": 3, "tolerance": 0.01}
    measured = report(model, batches, **brief)
    assert measured.loss == pytest.approx(loss, rel=1e-5)
    assert measured.size == 2 * 128
    assert measured.within[0.5].worst > measured.within[0.05].worst > loss
    assert measured.top_eigenvalue > 0
    assert measured.top_eigenvalue_error <= 0.01 * measured.top_eigenvalue
    assert model.active_adapter == "default"
    context = model.get_base_model().text_model.embeddings.clip_prompt_context["default"]
    assert measured == report(model, batches, parameters=[context], **brief)
    assert "| worst loss found within 0.5 |" in str(measured)


class NotTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * 2 * ctx.saved_tensors[0]


def test_what_cannot_be_measured_is_said(net, data):
    loader = DataLoader(data, 7)
    with pytest.raises(ValueError, match="rhos must be positive numbers, got 0"):
        report(net, loader, loss=classification, rhos=[0])
    for name, value in (("directions", 1), ("probes", 1), ("max_iterations", 0), ("ascent_steps", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            report(net, loader, loss=classification, **{name: value})
    with pytest.raises(ValueError, match=r"loss=…"):
        report(net, loader)
    with pytest.raises(ValueError, match="returns no loss for batches of x"):
        report(net, [{"x": data[:][0]}])
    with pytest.raises(ValueError, match="no batches"):
        report(net, [], loss=classification)
    with pytest.raises(ValueError, match="does not depend on the parameters"):
        report(net, loader, loss=lambda model, batch: torch.ones(()))
    with pytest.raises(ValueError, match="does not depend on the parameters"):
        report(net, loader, loss=classification, parameters=[nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="The loss at the parameters is nan"):
        report(net, loader, loss=lambda model, batch: classification(model, batch) * torch.nan)
    with pytest.raises(ValueError, match="several devices"):
        report(
            net, loader, loss=classification, parameters=[*net.parameters(), nn.Parameter(torch.ones(1).to("meta"))]
        )
    with pytest.raises(RuntimeError, match="differentiated twice"):
        report(net, loader, loss=lambda model, batch: cross_entropy(NotTwice.apply(model(batch[0])), batch[1]))
    with pytest.raises(ValueError, match="nothing to move"):
        report(net.requires_grad_(False), loader, loss=classification)
