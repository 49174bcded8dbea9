"""A small problem for tests of the mechanism, and what they ask of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import DistributedType
from sharpness.every_rule import NEEDS_LABELS, make_rule
from torch import nn
from torch.nn.functional import cross_entropy

from hf_sharp_prompt.sharpness import SharpnessAware, SharpnessRule


BATCH = 6
Rows = slice | list[int]


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

    def losses(self, rows: Rows = slice(None)) -> torch.Tensor:
        """Each row's loss."""
        hidden = self.dropout(torch.tanh(self.inputs[rows] @ self.frozen @ self.first))
        return cross_entropy(hidden @ self.second + self.bias, self.labels[rows], reduction="none")

    def loss(self, rows: Rows = slice(None)) -> torch.Tensor:
        """The rows' share of the batch's mean loss."""
        return self.losses(rows).sum() / BATCH

    def directions(self) -> torch.Tensor:
        return torch.cat([each.grad.flatten() for each in self.parameters() if each.grad is not None])

    def trained(self) -> list[nn.Parameter]:
        return [each for each in self.parameters() if each.requires_grad]

    def bits(self) -> list[torch.Tensor]:
        return [each.detach().clone() for each in self.parameters()]


def assert_same_bits(some: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def assert_same_state(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in some.items())


def make_sharp(
    rule: str | SharpnessRule, model: Classifier, accelerator: Any = None, **settings: Any
) -> SharpnessAware:
    """With an optimizer to step with, at whose learning rate some rules look."""
    rule = make_rule(rule) if isinstance(rule, str) else rule
    optimizer = torch.optim.SGD(model.trained(), lr=0.1, momentum=0.9)
    return SharpnessAware(rule, model.parameters(), accelerator, optimizer=optimizer, **settings)


def micro_batches(
    name: str, model: Classifier, rows: Sequence[Rows] = (slice(None),), per_sample: bool = False
) -> tuple[list[Callable[[], torch.Tensor]], list[torch.Tensor]]:
    """Arguments for `backward`: closures of scalars, or of losses per sample, and the labels."""
    loss = model.losses if per_sample or name in NEEDS_LABELS else model.loss
    return [lambda part=part: loss(part) for part in rows], [model.labels[part] for part in rows]


class Scaled:
    """What `SharpnessAware` knows of an `Accelerator` with fp16 mixed precision."""

    num_processes, process_index = 1, 0
    distributed_type = DistributedType.NO
    gradient_accumulation_steps = 1

    def __init__(self, scale: float = 2.0**16) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

    def backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()
