"""A training loop small enough to be written out, for objectives that remember what the run has passed."""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.objectives import Batch, ObjectiveSum, create
from hf_sharp_prompt.sharpness import SharpnessAware
from hf_sharp_prompt.sharpness import create as create_rule


SAMPLES, CLASSES, BATCH = 12, 3, 4
SETTINGS = {"saf": {"epochs_ago": 2, "start": 3, "temperature": 2.0}, "mesa": {"decay": 0.7, "start": 1}}


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
