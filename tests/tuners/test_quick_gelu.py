"""CLIP's activation is the same with fewer passes over its values."""

import pytest
import torch
from peft import get_peft_model
from torch.nn.functional import silu
from transformers.activations import QuickGELUActivation
from tuners.clip_designs import make_config
from tuners.clip_models import make_model

from hf_sharp_prompt.tuners.quick_gelu import QuickGELU


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_values_are_those_of_transformers_bit_for_bit(dtype):
    """Otherwise a prompted model without its prompt is another model."""
    x = 3 * torch.randn(100, dtype=dtype)
    expected = QuickGELUActivation()(x)
    assert torch.equal(QuickGELU()(x), expected)
    assert torch.equal(QuickGELU()(x.requires_grad_()), expected)


def test_its_derivatives_are_right():
    """Otherwise prompts follow another gradient, or sharpness is measured with another Hessian."""
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), x)
    assert torch.autograd.gradgradcheck(QuickGELU(), x)
    (gradient,) = torch.autograd.grad(QuickGELU()(x).sum(), x)
    (expected,) = torch.autograd.grad(silu(1.702 * x).sum() / 1.702, x)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_it_is_vectorised_as_any_function():
    """Otherwise many runs at once cannot share a model."""
    x = torch.randn(3, 4, dtype=torch.float64)
    of_rows = torch.func.vmap(torch.func.grad(lambda row: QuickGELU()(row).sum()))(x)
    torch.testing.assert_close(of_rows, torch.stack([torch.func.grad(lambda r: QuickGELU()(r).sum())(r) for r in x]))


def test_a_model_has_it_while_it_is_prompted():
    """Otherwise it is not used, or stays in a model that was given back."""
    model = get_peft_model(make_model("CLIPModel"), make_config(".coop()"))
    kinds = {type(module) for module in model.modules()}
    assert QuickGELU in kinds
    assert QuickGELUActivation not in kinds
    kinds = {type(module) for module in model.unload().modules()}
    assert QuickGELU not in kinds
    assert QuickGELUActivation in kinds
