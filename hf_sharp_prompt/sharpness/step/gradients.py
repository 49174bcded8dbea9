"""The gradient evaluations of one step: what a rule calls as `gradient`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from ...random_state import RandomState
from ..rule import SampleMask
from ..vectors import cosine, filter_norms, flatten
from .buffers import buffers_kept
from .context import StepContext


class Backward(NamedTuple):
    """What a backward pass returns.

    Args:
        loss: The loss, detached: a share of the step's loss, or a sum over samples.
        samples: How many samples the loss is the sum of; None where it is a share already.
    """

    loss: torch.Tensor
    samples: int | None = None


BackwardPass = Callable[[SampleMask | None], Backward]


class Evaluations:
    """Gradients at and near the parameters as they are when it is made.

    Args:
        context: What the step's evaluations have in common.
        backward_pass: Computes the loss and runs its backward pass.
        part: The number of the micro-batch or process whose gradients these are; None for the whole batch.
        share: The part's share of the loss.
        again: True if this step has already been evaluated: dropout masks and buffers are then the step's.

    Attributes:
        reached: For each parameter whether the loss depended on it, in any evaluation.
        weight: What the part counts among the others: its number of samples, or its share.
    """

    def __init__(
        self,
        context: StepContext,
        backward_pass: BackwardPass,
        part: int | None = None,
        share: torch.Tensor | float = 1.0,
        again: bool = False,
    ) -> None:
        self.context, self.backward_pass = context, backward_pass
        self.part, self.share, self.again = part, share, again
        self.origin = context.parameters.copy()
        self.reached = [False] * len(self.origin)
        self.random_state = RandomState.capture([self.origin[0].device])
        self.evaluated: list[_Evaluation] = []

    @property
    def weights(self) -> torch.Tensor:
        return flatten(self.origin)

    @property
    def learning_rate(self) -> float:
        return self.context.find_learning_rate()

    @property
    def epoch(self) -> int:
        return self.context.epoch

    @property
    def reweighting_stage(self) -> int:
        return self.context.reweighting_stage

    def draw_normal(self) -> torch.Tensor:
        """Standard normal noise; drawn on the CPU in float64, so the same on every device and in any precision."""
        like = self.weights
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float64).to(like)

    @cached_property
    def _generator(self) -> torch.Generator:
        return self.context.generator if self.part is None else self.context.generator_of_part(self.part)

    def filter_norms(self) -> torch.Tensor:
        """Return the norm of each parameter's row, or of its whole tensor if that has one dimension or none."""
        return filter_norms(self.origin)

    def __call__(self, offset: torch.Tensor | None = None, sample_mask: SampleMask | None = None) -> torch.Tensor:
        """`∇L(w + offset)`, flat, over all micro-batches and processes, without loss scaling."""
        parameters = self.context.parameters
        parameters.move(self.origin, offset)
        parameters.gradients = [None] * len(self.origin)
        loss, samples = self._run_backward_pass(sample_mask)
        reached = [each is not None for each in parameters.gradients]
        if not any(reached):
            raise ValueError("No gradient reached the trainable parameters; does the loss depend on them?")
        gradient = parameters.read_gradients()
        if self.context.scaler:
            # `get_scale()` would wait for the device.
            gradient = gradient / self.context.scaler.scale(torch.ones((), device=gradient.device))
        if self.part is None:
            gradient, loss, reached = self._reduce(gradient, loss, samples, reached)
        else:
            self.weight = loss.new_tensor(samples if samples is not None else self.share)
            whole = self.weight.where(self.weight > 0, 1)
            gradient, loss = gradient / whole.to(gradient), loss / whole
        self.reached = [before or now for before, now in zip(self.reached, reached, strict=True)]
        self.evaluated.append(_Evaluation(gradient, loss, offset is not None, sample_mask is None))
        return gradient

    def _run_backward_pass(self, sample_mask: SampleMask | None) -> Backward:
        """Run it with the step's dropout masks; only the step's first changes the buffers."""
        if not (self.again or self.evaluated):
            return self.backward_pass(sample_mask)
        self.random_state.restore()
        with buffers_kept(self.context.model):
            return self.backward_pass(sample_mask)

    def _reduce(
        self, gradient: torch.Tensor, loss: torch.Tensor, samples: int | None, reached: list[bool]
    ) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
        """Reduce over processes as one tensor, the loss with it, and turn sums over samples into means."""
        count: torch.Tensor | int = 1 if samples is None else samples
        if self.context.processes > 1:
            # On gradients that DDP has reduced already this changes nothing.
            flat = torch.cat([gradient, loss.reshape(1).to(gradient), gradient.new_tensor([count, *reached])])
            flat = self.context.reduce(flat)
            gradient, rest = flat.split([len(gradient), len(flat) - len(gradient)])
            loss, count = rest[0].to(loss), rest[1]
            if not all(reached):  # Otherwise there is nothing to learn, and no reason to wait for the device.
                reached = [value > 0 for value in rest[2:].tolist()]
        return gradient / count, loss / count, reached

    @contextmanager
    def parameters_restored(self) -> Iterator[None]:
        """However the block ends, the parameters have the bits they had before it."""
        try:
            yield
        finally:
            self.context.parameters.move(self.origin)

    @property
    def loss(self) -> torch.Tensor:
        """The loss at the un-perturbed parameters, or where the rule first looked if it did not look there."""
        return torch.stack([each.loss for each in self._here]).sum()

    @property
    def gradient(self) -> torch.Tensor:
        """The gradient that belongs to `loss`."""
        return torch.stack([each.gradient for each in self._here]).sum(dim=0)

    @property
    def perturbed(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Loss and gradient where the rule first looked elsewhere, if over the whole batch and not only there."""
        elsewhere = [each for each in self.evaluated if each.whole and each not in self._here]
        return (elsewhere[0].loss, elsewhere[0].gradient) if elsewhere else None

    def metrics(self) -> dict[str, torch.Tensor]:
        """Return what is to be logged: the loss, ‖g‖, and of rules that look elsewhere what they saw there."""
        metrics = {"loss": self.loss, "gradient_norm": self.gradient.norm()}
        if self.perturbed is not None:
            perturbed_loss, perturbed_gradient = self.perturbed
            metrics["perturbed_loss"] = perturbed_loss
            metrics["sharpness"] = perturbed_loss - self.loss
            metrics["cosine"] = cosine(self.gradient, perturbed_gradient)
        return metrics

    def finite(self) -> torch.Tensor:
        """True if all gradients were finite."""
        return torch.stack([torch.isfinite(each.gradient).all() for each in self.evaluated]).all()

    @property
    def _here(self) -> list[_Evaluation]:
        return [each for each in self.evaluated if not each.shifted] or self.evaluated[:1]


@dataclass(eq=False)
class _Evaluation:
    """One gradient, its loss, and whether it was taken elsewhere and over the whole batch."""

    gradient: torch.Tensor
    loss: torch.Tensor
    shifted: bool
    whole: bool
