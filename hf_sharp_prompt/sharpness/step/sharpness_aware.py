from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from ..rule import SampleMask, SharpnessRule
from ..schedule import RHO_SCHEDULES
from ..subspace import Subspace
from .constraint import Constraint, constrain
from .context import StepContext
from .gradients import Backward, BackwardPass, Evaluations
from .m_sharpness import Followed, follow, follow_parts
from .parameters import Parameters, ParameterVector


Closure = Callable[[], torch.Tensor]

M_SHARPNESS = ("batch", "micro_batch", "process")

ENGINES_THAT_OWN_THE_GRADIENT = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


class SharpnessAware:
    """Puts a rule's direction in `.grad`, where `loss.backward()` would put the gradient.

    All of the mechanism is here and none in the rules: perturbing and restoring, several micro-batches, several
    processes, loss scaling, equal dropout masks, checkpointing. All trainable parameters form one flat vector.

    Args:
        rule: The rule, as `sharpness.create` makes it.
        parameters: The model, or its `parameters()` or `named_parameters()`; those with `requires_grad` train. All on
            one device. Only a step's first evaluation changes buffers, such as batch normalisation's running
            statistics: those of the model, or without it those of all modules that the step calls.
        accelerator: The loop's `Accelerator`, if it has one: gradients are then averaged over its processes and its
            mixed precision is respected.
        optimizer: The optimizer, for rules and schedules that look at its learning rate.
        rho_schedule: How the rule's rho (and `graphsam`'s radius) goes over the run: `"constant"`, `"linear"` or
            `"cosine"` to zero with `progress`, or `"learning_rate"`, proportional to it.
        m_sharpness: Over what the rule is applied: the step's whole `"batch"`; or each `"micro_batch"`, or each
            `"process"`'s share of the batch, alone, and the mean of their directions is followed (m-sharpness, Foret
            et al. §4.1). Each part then has its own perturbation and noise; what the rule remembers is the mean of
            what it would remember of each part. Call a model in DistributedDataParallel under
            `accelerator.no_sync(model)` then, because it must not average before the rule has looked.
        seed: Seeds the rule's noise; the same in every process.
        subspace: The rule's direction is projected onto it (SubPT).

    Attributes:
        parameters: The trainable parameters as one vector.
        progress: The share of the run that is over, from 0 to 1. The loop sets it, for schedules.
        epoch: The epoch, from 0. The loop sets it, for rules that restart in each epoch.
        reweighting_stage: How many times the classes have been re-weighted. The loop sets it.
        finite: A boolean tensor on the device: True if all gradients of the last step were finite, in every process.

    Raises:
        ValueError: No trainable parameters, or on several devices; an engine that owns the backward pass or shards
            the parameters; gradient accumulation by the accelerator.

    Example:
        ```py
        >>> sharp = SharpnessAware(create("sam", rho=0.05), model)
        >>> for images, labels in loader:
        ...     loss = sharp.backward(lambda: F.cross_entropy(model(images), labels))
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ```
    """

    def __init__(
        self,
        rule: SharpnessRule,
        parameters: Parameters,
        accelerator: Accelerator | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        rho_schedule: str = "constant",
        m_sharpness: str = "batch",
        seed: int = 0,
        subspace: Subspace | None = None,
    ) -> None:
        if rho_schedule not in RHO_SCHEDULES:
            raise ValueError(f"rho_schedule must be one of {', '.join(RHO_SCHEDULES)}, got {rho_schedule!r}.")
        if m_sharpness not in M_SHARPNESS:
            raise ValueError(f"m_sharpness must be one of {', '.join(M_SHARPNESS)}, got {m_sharpness!r}.")
        if accelerator is not None:
            _check_accelerator(accelerator)
        self.rule = rule
        self.parameters = ParameterVector(parameters)
        self.accelerator = accelerator
        self.optimizer = optimizer
        self.model = parameters if isinstance(parameters, nn.Module) else None
        self.rho_schedule = rho_schedule
        self.m_sharpness = m_sharpness
        self.subspace = subspace
        self.progress, self.epoch, self.reweighting_stage = 0.0, 0, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.finite = torch.ones((), dtype=torch.bool, device=self.parameters.device)
        self._totals: dict[str, tuple[torch.Tensor | int, int]] = {}  # on the device, so that no step waits for it

    def backward(
        self,
        closure: Closure | Sequence[Closure],
        labels: torch.Tensor | Sequence[torch.Tensor] | None = None,
        constraints: Sequence[Constraint] = (),
    ) -> torch.Tensor:
        """Add the rule's direction to `.grad`.

        Args:
            closure: Computes the step's loss without calling `backward`: a scalar, or the losses of the samples, a
                vector whose mean is the loss. It is called once per gradient evaluation of the rule. Several closures
                are micro-batches, each with its own graph: scalars add up, and of vectors the mean is over all.
            labels: The samples' labels, or those of each micro-batch, for rules that tell classes apart.
            constraints: Other losses whose gradients constrain the direction, in this order. They see the rule's
                direction over the whole batch, and the subspace confines the result. Each costs a gradient
                evaluation.

        Returns:
            The loss at the un-perturbed parameters, over all micro-batches and, with an accelerator, the mean over
            its processes.

        Raises:
            ValueError: The closure returns something other than a loss, or one that does not depend on the trainable
                parameters; the rule needs labels and losses per sample, and lacks them.
        """
        closures = _as_closures(closure)
        of_closures = list(labels) if isinstance(labels, Sequence) else [labels] * len(closures)
        if len(of_closures) != len(closures):
            raise ValueError(f"There are {len(closures)} closures but {len(of_closures)} labels; give one to each.")
        passes = [self._as_backward_pass(*each) for each in zip(closures, of_closures, strict=True)]
        return self.accumulate_direction(passes, constraints=[self._with_backward_pass(each) for each in constraints])

    def accumulate_direction(
        self,
        backward_pass: BackwardPass | Sequence[BackwardPass],
        shares: Sequence[torch.Tensor | float] | None = None,
        constraints: Sequence[Constraint] = (),
    ) -> torch.Tensor:
        """As `backward`, for loops that run the backward pass themselves.

        Args:
            backward_pass: Computes the loss, runs its backward pass (with loss scaling, where the loop has it) and
                returns a [`Backward`]. Called with what a rule gives as `sample_mask`. Several are micro-batches,
                whose losses add up.
            shares: Where a rule is applied to micro-batches or processes alone: each micro-batch's share of the loss,
                1 in all as the mean over the processes. By default they are equal.
            constraints: As for `backward`; each one's loss is a backward pass.

        Returns:
            The loss at the un-perturbed parameters.
        """
        passes = [backward_pass] if callable(backward_pass) else list(backward_pass)
        shares = [1 / len(passes)] * len(passes) if shares is None else list(shares)
        held, before = self.parameters.gradients, self.state_dict()
        context = self._context()
        others = [(each, Evaluations(context, each.loss, again=True)) for each in constraints]
        try:
            with self._scheduled_rho():
                followed = self._follow(context, passes, shares)
            for constraint, evaluations in others:
                constrain(followed, constraint, evaluations)
            if self.subspace is not None:
                followed.direction = self.subspace.project(followed.direction)
        except BaseException:
            self.load_state_dict(before)
            self.parameters.gradients = held
            raise
        self._accumulate(followed, held, before)
        return followed.metrics["loss"]

    def pop_metrics(self) -> dict[str, float]:
        """Means since the last call, each over the steps that had it.

        `loss` at the un-perturbed parameters and `gradient_norm` ‖g‖ there; of rules that look elsewhere,
        `perturbed_loss`, `sharpness` (their difference) and `cosine` cos(g, g_p); what the rule itself reports; and of
        constraints `<name>_cosine`, that of the direction and their gradient, and `<name>_conflicts`, the share of
        steps in which it was negative.
        """
        metrics = {name: float(total) / count for name, (total, count) in self._totals.items()}
        self._totals = {}
        return metrics

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what is needed to go on from here, tensors by name: the rule's memory and its noise generator."""
        return {**self.rule.state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.generator.set_state(state["generator"].cpu())
        device = self.parameters.device
        self.rule.state = {name: tensor.to(device) for name, tensor in state.items() if name != "generator"}

    @property
    def scales_loss(self) -> bool:
        """True if a loss scaler is at work, which skips steps whose gradients are not finite."""
        return bool(self._scaler)

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate.

        Raises:
            ValueError: There is no optimizer to ask.
        """
        if self.optimizer is None:
            raise ValueError(
                f"The rule {self.rule.name!r} with rho_schedule={self.rho_schedule!r} looks at the learning rate; "
                "give SharpnessAware the optimizer."
            )
        return self.optimizer.param_groups[0]["lr"]

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return None if self.accelerator is None else self.accelerator.scaler

    def _context(self) -> StepContext:
        return StepContext(
            self.parameters,
            self.model,
            self.generator,
            self.accelerator,
            lambda: self.learning_rate,
            self.epoch,
            self.reweighting_stage,
        )

    @contextmanager
    def _scheduled_rho(self) -> Iterator[None]:
        radii = {name: getattr(self.rule, name) for name in ("rho", "radius") if hasattr(self.rule, name)}
        if self.rho_schedule == "constant" or not radii:
            yield
            return
        relative = 1.0
        if self.rho_schedule == "learning_rate":
            highest = self.optimizer.param_groups[0].get("initial_lr", self.learning_rate) if self.optimizer else 1.0
            relative = self.learning_rate / highest if highest else 0.0
        factor = RHO_SCHEDULES[self.rho_schedule](self.progress, relative)
        for name, radius in radii.items():
            setattr(self.rule, name, radius * factor)
        try:
            yield
        finally:
            for name, radius in radii.items():
                setattr(self.rule, name, radius)

    def _follow(
        self, context: StepContext, passes: list[BackwardPass], shares: list[torch.Tensor | float]
    ) -> Followed:
        if self.m_sharpness == "micro_batch":
            return follow_parts(self.rule, context, passes, shares)
        whole = _one_after_another(passes)
        if self.m_sharpness == "process":
            return follow_parts(self.rule, context, [whole], [sum(shares)])
        return follow(self.rule, context, whole)

    def _accumulate(
        self, followed: Followed, held: list[torch.Tensor | None], before: dict[str, torch.Tensor]
    ) -> None:
        """Add the direction to the gradients that were held; a failed step leaves the rule as it was before."""
        scaler, direction, self.finite = self._scaler, followed.direction, followed.finite
        remembers = bool(self.rule.state) or not torch.equal(before["generator"], self.generator.get_state())
        failed = bool(remembers or scaler) and not followed.finite
        if failed:
            self.load_state_dict(before)
            direction = torch.full_like(direction, torch.inf if scaler else torch.nan)
        elif scaler:
            direction = direction * scaler.get_scale()
        direction = direction.clone()  # a rule may remember it, and clipping changes `.grad` in place
        self.parameters.gradients = [
            grad if not reached else part if grad is None else grad + part
            for grad, part, reached in zip(held, self.parameters.split(direction), followed.reached, strict=True)
        ]
        if not (failed and scaler):  # Otherwise the scaler skips the step.
            self._record(followed.metrics)

    def _as_backward_pass(self, closure: Closure, labels: torch.Tensor | None) -> BackwardPass:
        return lambda sample_mask: self._run_closure(closure, labels, sample_mask)

    def _with_backward_pass(self, constraint: Constraint) -> Constraint:
        """Return the constraint with a backward pass instead of closures."""
        passes = [self._as_backward_pass(each, None) for each in _as_closures(constraint.loss)]
        return constraint._replace(loss=_one_after_another(passes))

    def _run_closure(self, closure: Closure, labels: torch.Tensor | None, sample_mask: SampleMask | None) -> Backward:
        loss = _check_loss(closure())
        samples = loss.numel() if loss.dim() else None
        if sample_mask is not None:
            if labels is None or loss.shape != labels.shape:
                raise ValueError(
                    f"The rule {self.rule.name!r} tells classes apart: the closure must return the losses of the "
                    "samples, one each, and backward() be given their labels, as class indices."
                )
            loss = loss * sample_mask(labels)
        loss = loss.sum()
        loss.backward() if self.accelerator is None else self.accelerator.backward(loss)
        return Backward(loss.detach(), samples)

    def _record(self, metrics: dict[str, torch.Tensor]) -> None:
        for name, value in metrics.items():
            total, count = self._totals.get(name, (0, 0))
            self._totals[name] = total + value, count + 1


def _one_after_another(passes: Sequence[BackwardPass]) -> BackwardPass:
    """Return the backward pass of several micro-batches, whose losses and samples add up."""

    def run(sample_mask: SampleMask | None) -> Backward:
        results = [each(sample_mask) for each in passes]
        counts = [result.samples for result in results if result.samples is not None]
        loss = torch.stack([result.loss for result in results]).sum()
        return Backward(loss, sum(counts) if counts else None)

    return run


def _as_closures(closure: Closure | Sequence[Closure]) -> list[Closure]:
    closures = [closure] if callable(closure) else list(closure) if isinstance(closure, Sequence) else []
    if not closures or not all(map(callable, closures)):
        raise ValueError(
            "backward() takes a function that computes the loss, or a list of them, and not the loss itself: "
            "sharp.backward(lambda: cross_entropy(model(images), labels))."
        )
    return closures


def _check_loss(loss: Any) -> torch.Tensor:
    """Return the loss that a closure returned, if it is one."""
    expected = "The closure must return the loss, a scalar tensor or a vector of the samples' losses, but it returned"
    if isinstance(loss, tuple | list):
        raise ValueError(f"{expected} a {type(loss).__name__} of {len(loss)}; return its loss alone.")
    if loss is None:
        raise ValueError(f"{expected} None; end it with `return loss`.")
    if not isinstance(loss, torch.Tensor):
        advice = "return its `loss`" if hasattr(loss, "loss") else "keep the tensor, without .item() or .numpy()"
        raise ValueError(f"{expected} a {type(loss).__name__}; {advice}.")
    if loss.dim() > 1:
        raise ValueError(f"{expected} a tensor of shape {tuple(loss.shape)}; return its mean, or one loss per sample.")
    if not loss.requires_grad:
        raise ValueError(
            "The closure's loss does not depend on any trainable parameter. It must compute the loss at every call, "
            "with gradients enabled, and not call backward()."
        )
    return loss


def _check_accelerator(accelerator: Any) -> None:
    if accelerator.distributed_type in ENGINES_THAT_OWN_THE_GRADIENT:
        raise ValueError(
            f"Sharpness rules need whole gradients at shifted parameters, which {accelerator.distributed_type.value} "
            "does not give: it runs the backward pass itself or shards the parameters. Prompts are small and the rest "
            "is frozen, so plain data parallelism does: `accelerate launch --multi_gpu`, without DeepSpeed or FSDP. "
            "Frozen layers that one device cannot hold are sharded by hf_sharp_prompt.tuners.shard_frozen_layers."
        )
    if accelerator.gradient_accumulation_steps > 1:
        raise ValueError(
            "A rule is applied to a step's whole batch, so its micro-batches must be known together: leave the "
            "Accelerator's gradient_accumulation_steps at 1 and give backward() a list of closures, one per "
            "micro-batch, each returning its share of the loss."
        )
