from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from .batch import Batch
from .objective import ConstrainingObjective, Objective


class ObjectiveSum:
    """The sum of several objectives' terms, over the steps of a run.

    Args:
        objectives: The objectives, no two of the same kind.
        accelerator: The loop's `Accelerator`, needed with several processes.

    Example:
        ```py
        >>> objectives = ObjectiveSum([create("saf")])
        >>> for epoch in range(epochs):
        ...     for index, images, labels in loader:
        ...         objectives.begin_step(model, epoch)
        ...         logits = model(images=images)
        ...         loss = cross_entropy(logits, labels)
        ...         loss = loss + objectives.term(Batch(model, {"images": images}, logits, labels, index))
        ...         loss.backward()
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        ...         objectives.end_step(model)
        ```
    """

    def __init__(self, objectives: Sequence[Objective], accelerator: Accelerator | None = None) -> None:
        self.objectives = list(objectives)
        self.accelerator = accelerator
        self._step: dict[str, torch.Tensor] = {}
        self._totals: dict[str, torch.Tensor] = {}  # sums of terms and of shares

    @property
    def names(self) -> list[str]:
        return [objective.name for objective in self.objectives]

    @property
    def remembering_samples(self) -> list[str]:
        """The names of the objectives that must know which samples of the data set a batch has."""
        return [objective.name for objective in self.objectives if objective.needs_index]

    @property
    def needs_frozen_images(self) -> bool:
        """True if one of them compares with the images' features without prompts."""
        return any(objective.needs_frozen_images for objective in self.objectives)

    @property
    def constraints(self) -> list[ConstrainingObjective]:
        """The objectives whose terms are not added to the loss but constrain the direction."""
        return [objective for objective in self.objectives if isinstance(objective, ConstrainingObjective)]

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        """Prepare all objectives for a run; arguments and errors as for `Objective.begin_run`."""
        for objective in self.objectives:
            objective.begin_run(model, tokenizer)

    def begin_step(self, model: nn.Module, epoch: int) -> None:
        """Prepare all objectives for a step. A step that was not finished is forgotten."""
        self._step = {}
        for objective in self.objectives:
            objective.epoch = epoch
            objective.begin_step(model)

    def term(self, batch: Batch, constraint: ConstrainingObjective | None = None) -> torch.Tensor:
        """Return what a micro-batch adds to the loss. A rule may ask for it at several points in one step.

        Args:
            batch: The micro-batch.
            constraint: The constraint whose term is returned instead.
        """
        evaluated = (
            [constraint]
            if constraint is not None
            else [each for each in self.objectives if each not in self.constraints]
        )
        with nullcontext() if self.accelerator is None else self.accelerator.autocast():
            terms = {objective.name: objective.term(batch) for objective in evaluated}
        for name, term in terms.items():
            self._step[name] = self._step.get(name, 0) + torch.stack([term.detach(), batch.share.to(term)])
        return sum(terms.values(), batch.logits.new_zeros(()))

    def end_step(self, model: nn.Module) -> None:
        """Update the states after the optimizer has taken the step.

        Do not call it for a step that failed or was skipped.
        """
        for objective in self.objectives:
            objective.end_step(model, self.accelerator)
        for name, sums in self._step.items():
            self._totals[name] = self._totals.get(name, 0) + sums
        self._step = {}

    def end_epoch(self, model: nn.Module) -> None:
        """Update the states after an epoch's last step."""
        for objective in self.objectives:
            objective.end_epoch(model)

    def end_run(self, model: nn.Module) -> None:
        """Finish a run; call it after the last step, before the last evaluation and save."""
        for objective in self.objectives:
            objective.end_run(model)

    def pop_metrics(self) -> dict[str, float]:
        """Return `<name>_loss` of each objective: the mean of its term over the steps since the last call.

        With several processes all of them must call it.
        """
        metrics = {}
        for name, sums in self._totals.items():
            if self.accelerator is not None:
                sums = self.accelerator.reduce(sums, reduction="mean")
            metrics[f"{name}_loss"] = float(sums[0] / sums[1])
        self._totals = {}
        return metrics

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the states of all objectives: `<objective>.<name>` → tensor."""
        return {
            f"{objective.name}.{name}": tensor
            for objective in self.objectives
            for name, tensor in objective.state.items()
        }

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for objective in self.objectives:
            prefix = f"{objective.name}."
            objective.state = {
                name.removeprefix(prefix): tensor.clone() for name, tensor in state.items() if name.startswith(prefix)
            }
