"""A step's gradient evaluations: what a rule calls as `gradient`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from .buffers import buffers_kept
from .rule import Among
from .vectors import cosine, filter_norms


if TYPE_CHECKING:
    from .aware import SharpnessAware


class Evaluations:
    """Gradients at and near the parameters as they are when it is made.

    Args:
        sharp: Whose parameters, processes and scaling count.
        backward_pass: Computes the loss, runs its backward pass and returns the loss.
        part: Where the gradients are those of one part of the batch, a micro-batch or a process's share: its number.
        share: The part's share of the loss.
        again: Whether others of the step come before its first: dropout masks and buffers are the step's, then.

    Attributes:
        reached: For each parameter whether the loss depended on it, in any evaluation.
        weight: What the part counts among the others: its number of samples, or else its share.
    """

    def __init__(
        self,
        sharp: SharpnessAware,
        backward_pass: Callable[[Among | None], torch.Tensor],
        part: int | None = None,
        share: torch.Tensor | float = 1.0,
        again: bool = False,
    ) -> None:
        self.sharp = sharp
        self.backward_pass = backward_pass
        self.part, self.share, self.again = part, share, again
        self.reached = [False] * len(sharp.parameters)
        self.origin = [parameter.detach().clone() for parameter in sharp.parameters]
        self.random_state = _RandomState(self.origin[0].device)
        self.evaluated: list[_Evaluation] = []

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([tensor.reshape(-1) for tensor in self.origin])

    @property
    def learning_rate(self) -> float:
        return self.sharp.learning_rate

    @property
    def epoch(self) -> int:
        return self.sharp.epoch

    @property
    def stage(self) -> int:
        return self.sharp.stage

    def draw_normal(self) -> torch.Tensor:
        """Standard normal noise; drawn on the CPU in float64, so the same on every device and in any precision."""
        like = self.weights
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float64).to(like)

    @cached_property
    def _generator(self) -> torch.Generator:
        return self.sharp.generator if self.part is None else self.sharp._generator_of_part(self.part)

    def filter_norms(self) -> torch.Tensor:
        """The norm of each parameter's row, or of its whole tensor if that has one dimension or none."""
        return filter_norms(self.origin)

    def __call__(self, offset: torch.Tensor | None = None, among: Among | None = None) -> torch.Tensor:
        """`∇L(w + offset)`, flat, over all micro-batches and processes, without loss scaling."""
        sharp = self.sharp
        again = self.again or bool(self.evaluated)
        if again:
            self.random_state.restore()  # the same dropout masks in every evaluation of a step
        self._move_to(offset)
        sharp._set_gradients([None] * len(self.origin))
        sharp._samples = None
        with buffers_kept(sharp.model) if again else nullcontext():
            loss = self.backward_pass(among)
        reached = [parameter.grad is not None for parameter in sharp.parameters]
        if not any(reached):
            raise ValueError("No gradient reached the trainable parameters; does the loss depend on them?")
        gradient = sharp._flatten(
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in sharp.parameters
        )
        if sharp._scaler:
            gradient = gradient / sharp._scaler.get_scale()
        if self.part is None:
            gradient, loss, reached = self._reduce(gradient, loss, reached)
        else:
            self.weight = loss.new_tensor(sharp._samples if sharp._samples is not None else self.share)
            whole = self.weight.where(self.weight > 0, 1)
            gradient, loss = gradient / whole.to(gradient), loss / whole
        self.reached = [before or now for before, now in zip(self.reached, reached, strict=True)]
        self.evaluated.append(_Evaluation(gradient, loss, offset is not None, among is None))
        return gradient

    def _reduce(
        self, gradient: torch.Tensor, loss: torch.Tensor, reached: list[bool]
    ) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
        """Over processes as one tensor, the loss with it; and from sums over samples to means."""
        sharp = self.sharp
        samples = 1 if sharp._samples is None else sharp._samples
        if sharp.processes > 1:
            # On gradients that DDP has reduced already this changes nothing.
            flat = torch.cat([gradient, loss.reshape(1).to(gradient), gradient.new_tensor([samples, *reached])])
            flat = sharp.accelerator.reduce(flat, reduction="mean")
            gradient, rest = flat.split([len(gradient), len(flat) - len(gradient)])
            loss, samples = rest[0].to(loss), rest[1]
            if not all(reached):  # else there is nothing to learn, and no reason to wait for the device
                reached = [value > 0 for value in rest[2:].tolist()]
        return gradient / samples, loss / samples, reached

    @contextmanager
    def parameters_restored(self) -> Iterator[None]:
        """However the block ends, the parameters have the bits they had before it."""
        try:
            yield
        finally:
            self._move_to(None)

    @property
    def loss(self) -> torch.Tensor:
        """The loss at the un-perturbed parameters, or where the rule first looked if it did not look there."""
        return sum(each.loss for each in self._here)

    @property
    def gradient(self) -> torch.Tensor:
        """The gradient that belongs to `loss`."""
        return sum(each.gradient for each in self._here)

    @property
    def perturbed(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Loss and gradient where the rule first looked elsewhere, if over the whole batch and not only there."""
        elsewhere = [each for each in self.evaluated if each.whole and each not in self._here]
        return (elsewhere[0].loss, elsewhere[0].gradient) if elsewhere else None

    def metrics(self) -> dict[str, torch.Tensor]:
        """What is to be logged: the loss, ‖g‖, and of rules that look elsewhere what they saw there."""
        metrics = {"loss": self.loss, "gradient_norm": self.gradient.norm()}
        if self.perturbed is not None:
            perturbed_loss, perturbed_gradient = self.perturbed
            metrics["perturbed_loss"] = perturbed_loss
            metrics["sharpness"] = perturbed_loss - self.loss
            metrics["cosine"] = cosine(self.gradient, perturbed_gradient)
        return metrics

    def finite(self) -> torch.Tensor:
        """Whether all gradients were."""
        return torch.stack([torch.isfinite(each.gradient).all() for each in self.evaluated]).all()

    @property
    def _here(self) -> list[_Evaluation]:
        return [each for each in self.evaluated if not each.shifted] or self.evaluated[:1]

    @torch.no_grad()
    def _move_to(self, offset: torch.Tensor | None) -> None:
        parameters = self.sharp.parameters
        if offset is None:
            torch._foreach_copy_(parameters, self.origin)
        else:
            torch._foreach_copy_(parameters, torch._foreach_add(self.origin, list(self.sharp._split(offset))))
        torch.clear_autocast_cache()  # which, in a loop's own autocast, would hold the parameters as they were


class _Evaluation:
    def __init__(self, gradient: torch.Tensor, loss: torch.Tensor, shifted: bool, whole: bool) -> None:
        self.gradient, self.loss, self.shifted, self.whole = gradient, loss, shifted, whole


class _RandomState:
    """The state of torch's generators when it was made: the CPU's and the device's."""

    def __init__(self, device: torch.device) -> None:
        self.cpu = torch.get_rng_state()
        self.device = device
        self.on_device = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.on_device is not None:
            torch.get_device_module(self.device).set_rng_state(self.on_device, self.device)
