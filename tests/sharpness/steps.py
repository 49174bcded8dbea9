"""Steps over the small problem, and which rules, forms of losses and evaluations a test has to try."""

from collections.abc import Callable, Sequence

import pytest
import torch
from sharpness.every_rule import DRAWS, NEEDS_LABELS, REMEMBERS
from sharpness.problem import (
    Classifier,
    Rows,
    make_sharp,
    micro_batches,
)

from hf_sharp_prompt.sharpness import (
    SharpnessAware,
    names,
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
# Rule, step and number of the evaluation: of the first step, and of the second where the rule then does another thing.
EVALUATIONS = [
    (name, step, number)
    for name in names()
    for step in ((0, 1) if name in REMEMBERS | DRAWS else (0,))
    for number in range(evaluations(name, 2)[step])
]


def looks_here(name: str, step: int) -> bool:
    """Whether a rule by its equation asks for the gradient at the un-perturbed parameters."""
    return name != "gnm" and (name not in {"graphsam", "extragradient"} or step == 0)
