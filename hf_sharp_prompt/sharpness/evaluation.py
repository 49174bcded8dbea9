"""One step's gradient evaluations: what a rule calls as `gradient`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from .rule import Among


if TYPE_CHECKING:
    from .aware import SharpnessAware


class Evaluations:
    """Gradients at and near the parameters as they are when it is made.

    Args:
        sharp: Whose parameters, processes and scaling count.
        backward_pass: Computes the loss, runs its backward pass and returns the loss.
    """

    def __init__(self, sharp: SharpnessAware, backward_pass: Callable[[Among | None], torch.Tensor]) -> None:
        self.sharp = sharp
        self.backward_pass = backward_pass
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
        """Standard normal noise; drawn on the CPU, so that it is the same on every device."""
        like = self.weights
        return torch.randn(like.shape, generator=self.sharp.generator, dtype=like.dtype).to(like.device)

    def filter_norms(self) -> torch.Tensor:
        """The norm of each parameter's row, or of its whole tensor if that has one dimension or none."""
        rows = [tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(1, -1) for tensor in self.origin]
        return torch.cat([row.norm(dim=1, keepdim=True).expand_as(row).reshape(-1) for row in rows])

    def __call__(self, offset: torch.Tensor | None = None, among: Among | None = None) -> torch.Tensor:
        """`∇L(w + offset)`, flat, over all micro-batches and processes, without loss scaling."""
        sharp = self.sharp
        buffers = [buffer.clone() for buffer in sharp.buffers] if self.evaluated else []
        if self.evaluated:
            self.random_state.restore()  # the same dropout masks in every evaluation of a step
        self._move_to(offset)
        sharp._set_gradients([None] * len(self.origin))
        sharp._samples = 0
        try:
            loss = self.backward_pass(among)
        finally:
            for buffer, before in zip(sharp.buffers, buffers):
                buffer.copy_(before)
        if all(parameter.grad is None for parameter in sharp.parameters):
            raise ValueError("No gradient reached the trainable parameters; does the loss depend on them?")
        gradient = sharp._flatten(
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in sharp.parameters
        )
        gradient, loss = self._reduce(gradient, loss)
        self.evaluated.append(_Evaluation(gradient, loss, offset is not None, among is None))
        return gradient

    def _reduce(self, gradient: torch.Tensor, loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Over processes as one tensor, the loss with it; and from sums over samples to means."""
        sharp = self.sharp
        if sharp._scaler:
            gradient = gradient / sharp._scaler.get_scale()
        samples = max(sharp._samples, 1)
        if sharp.accelerator is not None and sharp.accelerator.num_processes > 1:
            # On gradients that DDP has reduced already this changes nothing.
            flat = torch.cat([gradient, loss.reshape(1).to(gradient), gradient.new_tensor([samples])])
            flat = sharp.accelerator.reduce(flat, reduction="mean")
            gradient, loss, samples = flat[:-2], flat[-2].to(loss), flat[-1]
        return (gradient / samples, loss / samples) if sharp._samples else (gradient, loss)

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
        """Loss and gradient where the rule last looked elsewhere, if over the whole batch and not only there."""
        last = self.evaluated[-1]
        return (last.loss, last.gradient) if last.whole and last not in self._here else None

    def all_finite(self) -> bool:
        return all(bool(torch.isfinite(each.gradient).all()) for each in self.evaluated)

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
