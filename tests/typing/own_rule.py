"""A rule, an objective and a loss of a user's own, as CONTRIBUTING.md shows them, for a type checker.

`tests/typing/test_own_rule.py` lets mypy read this file. Where an error is expected, mypy has to report it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hf_sharp_prompt.objectives import Batch, ConstrainingObjective, LongTailLoss, Objective
from hf_sharp_prompt.sharpness import Gradient, SharpnessRule, hyperparameter, reject, unit


@dataclass
class Mine(SharpnessRule, name="mine"):
    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    steps: int = hyperparameter(2, low=1, help="Steps of ascent.")

    def direction(self, gradient: Gradient) -> torch.Tensor:
        g = gradient()
        offset = self.rho * gradient.learning_rate * unit(g)
        self.state["last"] = gradient.weights
        gradient.epoch = 3  # type: ignore[misc]  # read-only
        return reject(gradient(offset=offset, sample_mask=lambda labels: labels > self.steps), g)


class Calculated:
    """A gradient of a test's own: attributes are enough for the protocol's read-only properties."""

    def __init__(self, weights: torch.Tensor) -> None:
        self.weights = weights
        self.learning_rate = 0.1
        self.epoch = 0
        self.reweighting_stage = 0

    def __call__(
        self,
        offset: torch.Tensor | None = None,
        sample_mask: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        return self.weights if offset is None else self.weights + offset

    def draw_normal(self) -> torch.Tensor:
        return torch.zeros_like(self.weights)

    def filter_norms(self) -> torch.Tensor:
        return torch.ones_like(self.weights)


direction = Mine(rho=0.1).direction(Calculated(torch.ones(3)))
radius: float = Mine().rho
Mine(rho="large")  # type: ignore[arg-type]  # a number is expected
Mine().direction(3)  # type: ignore[arg-type]  # a number is no Gradient


@dataclass
class Confident(Objective, name="confident"):
    weight: float = hyperparameter(0.1, low=0, help="Weight of the term.")

    def term(self, batch: Batch) -> torch.Tensor:
        log_p = batch.logits.log_softmax(-1)
        return self.weight * batch.mean(-(log_p.exp() * log_p).sum(-1))


@dataclass
class Cautious(ConstrainingObjective, name="cautious"):
    def term(self, batch: Batch) -> torch.Tensor:
        return batch.mean(batch.logits.square().mean(-1))

    def constrain(self, direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return reject(direction, gradient)


@dataclass(eq=False)
class Scaled(LongTailLoss, name="scaled"):
    scale: float = hyperparameter(2.0, above=0, help="Scale of the logits.")

    def adjust(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.scale * logits


loss = Scaled([10, 2], scale=3.0)(torch.zeros(1, 2), torch.tensor([1]))
Confident(wieght=0.1)  # type: ignore[call-arg]  # a wrong name is an error
