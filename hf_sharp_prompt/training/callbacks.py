"""What has to happen at certain moments of every run of the Trainer."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from torch import nn
from transformers import TrainerCallback, TrainerState

from ..objectives import ObjectiveSum
from .arguments import SharpPromptTrainingArguments
from .finiteness import FinitenessCheck


class ReweightingInTheRun(TrainerCallback):
    """Refuses epochs of re-weighting that the run will not reach, which `max_steps` may end early."""

    def on_train_begin(
        self, args: SharpPromptTrainingArguments, state: TrainerState, control: Any, **kwargs: Any
    ) -> None:
        last = max(args.reweighting_epochs or (), default=0)
        if last >= state.num_train_epochs:
            raise ValueError(
                f"reweighting_epochs has {last}, but the run ends at max_steps={args.max_steps} in epoch "
                f"{state.num_train_epochs - 1}, counted from 0; raise max_steps or re-weight earlier."
            )


class StepsTaken(TrainerCallback):
    """Tells the objectives of a run which steps were taken, and when an epoch and the run end.

    A loss scaler may skip steps. SubPT's early stage is not reported as a run.

    Args:
        accelerator: The Trainer's `Accelerator`.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator

    def begin_run(self, objectives: ObjectiveSum, finiteness: FinitenessCheck, is_early_stage: bool) -> None:
        """Report to these from now on."""
        self.objectives, self.finiteness, self.is_early_stage = objectives, finiteness, is_early_stage

    def on_optimizer_step(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        skipped = self.accelerator.optimizer_step_was_skipped
        self.finiteness.see_update(skipped)
        if not skipped:
            self.objectives.end_step(model)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, *, model: nn.Module, **kwargs: Any) -> None:
        # Here rather than at the epoch's end, so that the epoch's last evaluation and save come after it.
        if float(state.epoch or 0).is_integer():
            self.objectives.end_epoch(model)
        if state.global_step >= state.max_steps:
            self._end_run(model)

    def on_train_end(self, args: Any, state: TrainerState, control: Any, *, model: nn.Module, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and not args.load_best_model_at_end:  # stopped early
            self._end_run(model)

    def _end_run(self, model: nn.Module) -> None:
        if not self.is_early_stage:
            self.objectives.end_run(model)
