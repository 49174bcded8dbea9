"""What has to happen at certain moments of every run of the Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..objectives import ObjectiveSum
from .arguments import SharpPromptTrainingArguments
from .checkpoint import checkpoints_of
from .finiteness import FinitenessCheck


class ReweightingInTheRun(TrainerCallback):
    """Refuses epochs of re-weighting that the run will not reach, which `max_steps` may end early."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epochs = args.reweighting_epochs if isinstance(args, SharpPromptTrainingArguments) else None
        last = max(epochs or (), default=0)
        if last >= state.num_train_epochs:
            raise ValueError(
                f"reweighting_epochs has {last}, but the run ends at max_steps={args.max_steps} in epoch "
                f"{state.num_train_epochs - 1}, counted from 0; raise max_steps or re-weight earlier."
            )


class EpochsOrder(TrainerCallback):
    """Tells the sampler, the data set and the scheduler which epoch's order, augmentation and learning rate are due.

    Where there are several processes, the Trainer does not tell the sampler in the epoch in which a run is resumed.
    It never tells the data set.
    """

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        loader = kwargs["train_dataloader"]
        for each in (loader, getattr(loader, "dataset", None), kwargs.get("lr_scheduler")):
            if (set_epoch := getattr(each, "set_epoch", None)) is not None:
                set_epoch(int(state.epoch or 0))


class StepsTaken(TrainerCallback):
    """Tells the objectives of a run which steps were taken, and when an epoch and the run end.

    A loss scaler may skip steps. SubPT's early stage is not reported as a run.

    Args:
        accelerator: The Trainer's `Accelerator`.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator

    def begin_run(self, objectives: ObjectiveSum, is_early_stage: bool) -> None:
        """Report to these objectives from now on."""
        self.objectives, self.is_early_stage = objectives, is_early_stage

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.accelerator.optimizer_step_was_skipped:
            self.objectives.end_step(kwargs["model"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Here rather than at the epoch's end, so that the epoch's last evaluation and save come after it.
        if float(state.epoch or 0).is_integer():
            self.objectives.end_epoch(kwargs["model"])
        if state.global_step >= state.max_steps and not self.is_early_stage:
            self.objectives.end_run(kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        stopped_early = state.global_step < state.max_steps
        if stopped_early and not args.load_best_model_at_end and not self.is_early_stage:
            self.objectives.end_run(kwargs["model"])


class StopsIfNotFinite(TrainerCallback):
    """Ends a run whose numbers are not finite, before it logs, evaluates or saves, and at its end.

    Args:
        accelerator: The Trainer's `Accelerator`.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.finiteness: FinitenessCheck | None = None  # once training has begun

    def begin_run(self, finiteness: FinitenessCheck, checkpoint_directory: str | Path) -> None:
        """Check this run from now on.

        Args:
            finiteness: What has been seen of the run.
            checkpoint_directory: Where the run's checkpoints are, for the error.
        """
        self.finiteness, self.checkpoint_directory = finiteness, Path(checkpoint_directory)

    def see_step(self, step: int, loss: torch.Tensor) -> None:
        """Remember what is not finite in a step, counted from 1."""
        if self.finiteness is not None:
            self.finiteness.see_step(step, loss)

    def check(self, step: int) -> None:
        """Raise if the run is not finite; before training there is nothing to check.

        Args:
            step: The steps taken.

        Raises:
            FloatingPointError: The parameters, or without a loss scaler the loss or its gradient, are not finite.
        """
        if self.finiteness is not None:
            checkpoints = checkpoints_of(self.checkpoint_directory)
            kept = f"The last checkpoint, {checkpoints[0]}, is kept." if checkpoints else "Nothing of it is saved."
            self.finiteness.check(step, kept)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.finiteness is not None:
            self.finiteness.see_update(self.accelerator.optimizer_step_was_skipped)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_log or control.should_evaluate or control.should_save:
            self.check(state.global_step)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_log or control.should_evaluate or control.should_save:
            self.check(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.check(state.global_step)
