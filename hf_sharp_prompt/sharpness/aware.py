from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from .rule import SharpnessRule
from .vectors import cosine


Closure = Callable[[], torch.Tensor]

ENGINES_THAT_OWN_THE_GRADIENT = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


class SharpnessAware:
    """Puts a rule's direction in `.grad`, where `loss.backward()` would put the gradient.

    All of the mechanism is here and none in the rules: perturbing and restoring, several micro-batches, several
    processes, loss scaling, equal dropout masks, checkpointing. All trainable parameters count as one flat vector.

    Args:
        rule: The rule, as `sharpness.create` makes it.
        parameters: The model's parameters; those with `requires_grad` train. All on one device.
        accelerator: The loop's `Accelerator`, if it has one: gradients are then averaged over its processes and its
            mixed precision is respected.

    Raises:
        ValueError: No trainable parameters, or on several devices; an engine that owns the backward pass or shards
            the parameters; gradient accumulation by the accelerator.

    Example:
        ```py
        >>> sharp = SharpnessAware(create("sam", rho=0.05), model.parameters())
        >>> for images, labels in loader:
        ...     loss = sharp.backward(lambda: F.cross_entropy(model(images), labels))
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ```
    """

    def __init__(
        self,
        rule: SharpnessRule,
        parameters: Iterable[nn.Parameter],
        accelerator: Accelerator | None = None,
    ) -> None:
        self.rule = rule
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.accelerator = accelerator
        self._totals: dict[str, torch.Tensor] = {}
        self._steps = 0
        if not self.parameters:
            raise ValueError("There is nothing to train: none of the parameters has requires_grad=True.")
        if len(devices := {str(parameter.device) for parameter in self.parameters}) > 1:
            raise ValueError(
                f"The trainable parameters are on several devices ({', '.join(sorted(devices))}); a sharpness rule "
                "needs them on one. Frozen parameters may be anywhere."
            )
        if accelerator is not None:
            _check_accelerator(accelerator)

    def backward(self, closure: Closure | Sequence[Closure]) -> torch.Tensor:
        """Add the rule's direction to `.grad`.

        Args:
            closure: Computes the step's loss, a scalar, without calling `backward`. It is called once per gradient
                evaluation of the rule. Several closures are micro-batches whose losses add up, each with a graph of
                its own.

        Returns:
            The loss at the un-perturbed parameters, over all micro-batches and, with an accelerator, the mean over
            its processes.

        Raises:
            ValueError: The loss does not depend on the trainable parameters.
        """
        closures = [closure] if callable(closure) else closure
        return self.accumulate_direction(lambda: sum(self._backward_pass(each) for each in closures))

    def accumulate_direction(self, backward_pass: Closure) -> torch.Tensor:
        """As `backward`, for loops that run the backward pass themselves.

        Args:
            backward_pass: Computes the loss, runs its backward pass (with loss scaling, where the loop has it) and
                returns the loss, detached.

        Returns:
            The loss at the un-perturbed parameters.
        """
        held = [parameter.grad for parameter in self.parameters]
        state = dict(self.rule.state)  # a copy: rules put new tensors into theirs
        evaluations = _Evaluations(self, backward_pass)
        try:
            with evaluations.parameters_restored():
                direction = self.rule.direction(evaluations)
        except BaseException:
            self.rule.state = state
            self._set_gradients(held)
            raise
        scaler = self._scaler
        if (state or self.rule.state or scaler) and not evaluations.all_finite():
            self.rule.state = state
            direction = torch.full_like(direction, torch.inf if scaler else torch.nan)
        elif scaler:
            direction = direction * scaler.get_scale()
        self._set_gradients(
            part if grad is None else grad + part for grad, part in zip(held, self._split(direction), strict=True)
        )
        self._record(evaluations)
        return evaluations.losses[0]

    def pop_metrics(self) -> dict[str, float]:
        """Means over the steps since the last call.

        `loss` at the un-perturbed parameters and `gradient_norm` ‖g‖ there; of rules that look elsewhere,
        `perturbed_loss`, `sharpness` (their difference) and `cosine` cos(g, g_p); and what the rule itself reports.
        """
        metrics = {name: float(total) / self._steps for name, total in self._totals.items()}
        self._totals, self._steps = {}, 0
        return metrics

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What the rule remembers from step to step, tensors by name."""
        return dict(self.rule.state)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        device = self.parameters[0].device
        self.rule.state = {name: tensor.to(device) for name, tensor in state.items()}

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return self.accelerator.scaler if self.accelerator is not None else None

    def _backward_pass(self, closure: Closure) -> torch.Tensor:
        loss = closure()
        if not loss.requires_grad:
            raise ValueError(
                "The closure's loss does not depend on any trainable parameter. It must compute the loss anew at "
                "every call, with gradients enabled, and not call backward()."
            )
        loss.backward() if self.accelerator is None else self.accelerator.backward(loss)
        return loss.detach()

    def _flatten(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    def _split(self, flat: torch.Tensor) -> Iterator[torch.Tensor]:
        sizes = [parameter.numel() for parameter in self.parameters]
        for part, parameter in zip(flat.split(sizes), self.parameters, strict=True):
            yield part.view_as(parameter).to(parameter.dtype)

    def _set_gradients(self, gradients: Iterable[torch.Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def _record(self, evaluations: _Evaluations) -> None:
        metrics = {
            "loss": evaluations.losses[0],
            "gradient_norm": evaluations.gradients[0].norm(),
            **self.rule.reported,
        }
        if len(evaluations.losses) > 1:
            metrics["perturbed_loss"] = evaluations.losses[-1]
            metrics["sharpness"] = evaluations.losses[-1] - evaluations.losses[0]
            metrics["cosine"] = cosine(evaluations.gradients[0], evaluations.gradients[-1])
        for name, value in metrics.items():
            self._totals[name] = self._totals.get(name, 0) + value
        self._steps += 1


class _Evaluations:
    """The gradient evaluations of one step: what a rule calls as `gradient`."""

    def __init__(self, sharp: SharpnessAware, backward_pass: Closure) -> None:
        self.sharp = sharp
        self.backward_pass = backward_pass
        self.origin = [parameter.detach().clone() for parameter in sharp.parameters]
        self.random_state = _RandomState(self.origin[0].device)
        self.losses: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []

    def __call__(self, offset: torch.Tensor | None = None) -> torch.Tensor:
        """`∇L(w + offset)`, flat, over all micro-batches and processes, without loss scaling."""
        sharp = self.sharp
        if self.losses:
            self.random_state.restore()  # the same dropout masks in every evaluation of a step
        self._move_to(offset)
        sharp._set_gradients([None] * len(self.origin))
        loss = self.backward_pass()
        if all(parameter.grad is None for parameter in sharp.parameters):
            raise ValueError("No gradient reached the trainable parameters; does the loss depend on them?")
        gradient = sharp._flatten(
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in sharp.parameters
        )
        if sharp._scaler:
            gradient = gradient / sharp._scaler.get_scale()
        if sharp.accelerator is not None and sharp.accelerator.num_processes > 1:
            # Reduced as one tensor, the loss with it; on gradients that DDP has reduced already this changes nothing.
            reduced = sharp.accelerator.reduce(torch.cat([gradient, loss.reshape(1).to(gradient)]), reduction="mean")
            gradient, loss = reduced[:-1], reduced[-1].to(loss)
        self.losses.append(loss)
        self.gradients.append(gradient)
        return gradient

    @contextmanager
    def parameters_restored(self) -> Iterator[None]:
        """However the block ends, the parameters have the bits they had before it."""
        try:
            yield
        finally:
            self._move_to(None)

    def all_finite(self) -> bool:
        return all(bool(torch.isfinite(gradient).all()) for gradient in self.gradients)

    @torch.no_grad()
    def _move_to(self, offset: torch.Tensor | None) -> None:
        parameters = self.sharp.parameters
        if offset is None:
            torch._foreach_copy_(parameters, self.origin)
        else:
            torch._foreach_copy_(parameters, torch._foreach_add(self.origin, list(self.sharp._split(offset))))


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


def _check_accelerator(accelerator: Any) -> None:
    if accelerator.distributed_type in ENGINES_THAT_OWN_THE_GRADIENT:
        raise ValueError(
            f"Sharpness rules need whole gradients at shifted parameters, which {accelerator.distributed_type.value} "
            "does not give: it runs the backward pass itself or shards the parameters. Prompts are small and the rest "
            "is frozen, so plain data parallelism does: `accelerate launch --multi_gpu`, without DeepSpeed or FSDP."
        )
    if accelerator.gradient_accumulation_steps > 1:
        raise ValueError(
            "A rule is applied to a step's whole batch, so its micro-batches must be known together: leave the "
            "Accelerator's gradient_accumulation_steps at 1 and give backward() a list of closures, one per "
            "micro-batch, each returning its share of the loss."
        )
