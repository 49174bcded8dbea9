"""What several tests of the mechanism need: a rule that remembers, and Accelerate without a trace."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from hf_sharp_prompt.sharpness import (
    Gradient,
    SharpnessRule,
    hyperparameter,
    unit,
)


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


@pytest.fixture
def accelerators() -> Iterator[Callable[..., Accelerator]]:
    """Makes real ones on the CPU, and afterwards removes what they leave in the process."""
    yield lambda **settings: Accelerator(cpu=True, **settings)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
