"""The loss over a whole loader as a function of the parameters, seen as one flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import find_batch_size, send_to_device, set_seed
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...random_state import accelerators, random_state_kept
from ..vectors import flatten, split


Loss = Callable[[nn.Module, Any], torch.Tensor]


@contextmanager
def open_surface(
    model: nn.Module,
    loader: Iterable[Any],
    loss: Loss | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    seed: int = 0,
) -> Iterator[LossSurface]:
    """Open the model's loss surface, for the length of a `with` block.

    However the block ends, parameters, `.grad`, `requires_grad`, buffers, training modes and the states of all random
    generators are as they were before it.

    Args:
        model: Any model; in the block it is in evaluation mode.
        loader: Batches. They are read once and kept, so that augmentation and shuffling do not change the surface.
        loss: `loss(model, batch)` → the batch's mean loss, or the losses of its samples, a vector. By default the
            model's own: `model(**batch).loss`.
        parameters: The coordinates; all others stay fixed. By default those with `requires_grad`; load an adapter with
            `is_trainable=True` for its own.
        seed: Seeds whatever draws random numbers while the batches are read and the loss is computed.

    Yields:
        The surface.

    Raises:
        ValueError: There are no parameters, or they are on several devices; there are no batches; the model returns no
            loss and there is no `loss`; or the loss is not finite, or does not depend on the parameters.
    """
    if parameters is None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parameters = list(dict.fromkeys(parameters))
    if not parameters:
        raise ValueError(
            "There is nothing to move: none of the model's parameters has requires_grad=True. Load an adapter with "
            "is_trainable=True, or give the parameters with parameters=…"
        )
    if len(devices := {str(parameter.device) for parameter in parameters}) > 1:
        raise ValueError(f"The parameters are on several devices ({', '.join(sorted(devices))}); put them on one.")
    with _left_as_it_was(model, parameters):
        model.eval()
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        set_seed(seed)
        batches = list(loader)
        if not batches:
            raise ValueError("The loader has no batches, so there is no loss to measure.")
        yield LossSurface(model, batches, loss or _own_loss, parameters)


class LossSurface:
    """A loader's mean loss, every sample counting the same, at and near the parameters w as they are now.

    Args:
        model: The model, in evaluation mode.
        batches: The batches, of any sizes.
        loss: As for `open_surface`.
        parameters: The coordinates, on one device.

    Attributes:
        origin: w, tensor by tensor.
        size: How many numbers w is; points and vectors here are flat tensors of that length.
        samples: How many samples the batches have together.
        loss_here, gradient_here: `L(w)` and `∇L(w)`.
    """

    def __init__(self, model: nn.Module, batches: list[Any], loss: Loss, parameters: list[nn.Parameter]) -> None:
        self.model, self.batches, self.parameters = model, batches, parameters
        self.origin = [parameter.detach().clone() for parameter in parameters]
        self.size = sum(parameter.numel() for parameter in parameters)
        counts = [_count_samples(batch) for batch in batches]
        self.samples = sum(counts)
        self._shares = [count / self.samples for count in counts]
        self._loss = loss
        self.loss_here, self.gradient_here = self.loss_and_gradient()
        if not math.isfinite(self.loss_here):
            raise ValueError(f"The loss at the parameters is {self.loss_here}; there is no surface around it.")

    @torch.no_grad()
    def loss(self, offset: torch.Tensor) -> float:
        """`L(w + offset)`."""
        self._move_to(offset)
        return sum(share * float(loss) for share, loss in self._losses())

    def loss_and_gradient(self, offset: torch.Tensor | None = None) -> tuple[float, torch.Tensor]:
        """`L(w + offset)` and `∇L(w + offset)`, by default at w.

        Raises:
            ValueError: The loss does not depend on the parameters.
        """
        self._move_to(offset)
        total, gradient = 0.0, torch.zeros_like(flatten(self.origin))
        for share, loss in self._losses():
            if not loss.requires_grad:
                raise ValueError("The loss does not depend on the parameters. Are they this model's, and in use?")
            total += share * float(loss.detach())
            gradient = gradient + share * self._differentiate(loss)
        return total, gradient

    def hessian_times(self, vector: torch.Tensor) -> torch.Tensor:
        """`∇²L(w) · vector`, exact, by differentiating twice.

        Raises:
            RuntimeError: Some operation of the model cannot be differentiated twice.
        """
        self._move_to(None)
        product = torch.zeros_like(vector)
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
                for share, loss in self._losses():
                    slope = self._differentiate(loss, create_graph=True) @ vector
                    if slope.requires_grad:  # else the loss is linear in the parameters
                        product += share * self._backpropagate(slope)
        except RuntimeError as error:
            if "derivative" not in str(error) and "differentiate twice" not in str(error):
                raise
            raise RuntimeError(
                "The Hessian needs a loss that can be differentiated twice, and some operation of this model cannot "
                'be. If that is its attention, load it with attn_implementation="sdpa" or "eager".'
            ) from error
        return product

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector as tensors with the parameters' shapes."""
        return split(flat, self.origin)

    def draw(self, generator: torch.Generator, signs: bool = False) -> torch.Tensor:
        """A standard normal vector, or one of random signs; drawn on the CPU, so the same on every device."""
        like = self.origin[0]
        noise = torch.randn(self.size, generator=generator, dtype=torch.float64)
        return (noise.sign() if signs else noise).to(like)

    def _losses(self) -> Iterator[tuple[float, torch.Tensor]]:
        """Yield for each batch its share of all samples, and its mean loss where the parameters are now."""
        for share, batch in zip(self._shares, self.batches, strict=True):
            yield share, self._loss(self.model, send_to_device(batch, self.origin[0].device)).mean()

    def _differentiate(self, loss: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
        parts = torch.autograd.grad(loss, self.parameters, create_graph=create_graph, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    def _backpropagate(self, value: torch.Tensor) -> torch.Tensor:
        """As `_differentiate`, but through operations that cannot be differentiated again it fails.

        `torch.autograd.grad` takes what a once-differentiable function returned for a constant.
        """
        for parameter in self.parameters:
            parameter.grad = None
        value.backward()
        parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters]
        return torch.cat([part.reshape(-1) for part in parts])

    @torch.no_grad()
    def _move_to(self, offset: torch.Tensor | None) -> None:
        for parameter, tensor in zip(self.parameters, self.origin):
            parameter.copy_(tensor)
        if offset is not None:
            for parameter, part in zip(self.parameters, self.split(offset)):
                parameter.add_(part)


@contextmanager
def _left_as_it_was(model: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Whatever the block does to the parameters and to the model's other state is taken back."""
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*parameters, *model.buffers())]
    flags = [(parameter, parameter.requires_grad, parameter.grad) for parameter in (*model.parameters(), *parameters)]
    modes = [(module, module.training) for module in model.modules()]
    with random_state_kept(accelerators()):
        try:
            for parameter, _, _ in flags:
                parameter.grad = None
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, requires_grad, grad in flags:
                parameter.requires_grad_(requires_grad)
                parameter.grad = grad
            with torch.no_grad():
                for tensor, before in tensors:
                    tensor.copy_(before)


def _own_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"A batch is a {type(batch).__name__}, and the model's own loss needs one of arguments by name. Give "
            "loss=…, a function of the model and a batch."
        )
    loss = getattr(model(**batch), "loss", None)
    if loss is None:
        raise ValueError(
            f"The model returns no loss for batches of {', '.join(batch)}. Put labels in the batches, or give loss=…, "
            "a function of the model and a batch."
        )
    return loss


def _count_samples(batch: Any) -> int:
    return find_batch_size(batch["labels"] if isinstance(batch, Mapping) and "labels" in batch else batch)
