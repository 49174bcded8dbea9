"""What has to happen at certain moments of every run of the Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerState

from .arguments import SharpPromptTrainingArguments


if TYPE_CHECKING:
    from .trainer import SharpPromptTrainer


class EpochsOrder(TrainerCallback):
    """Tells the sampler, the data set and the scheduler which epoch's order, augmentation and learning rate are due.

    Of several processes' loaders the Trainer does not reach the sampler in the epoch in which a run is resumed, nor
    ever the data set.
    """

    def on_epoch_begin(
        self,
        args: Any,
        state: TrainerState,
        control: Any,
        train_dataloader: DataLoader,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        for each in (train_dataloader, getattr(train_dataloader, "dataset", None), lr_scheduler):
            if hasattr(each, "set_epoch"):
                each.set_epoch(int(state.epoch))


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
    """Tells the objectives of the steps that the optimizer took, which may skip one that a loss scaler refuses, of the
    epochs and of the end; of the ends not of an early stage, which is no run of its own.
    """

    def __init__(self, trainer: SharpPromptTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        skipped = self.trainer.accelerator.optimizer_step_was_skipped
        self.trainer._finiteness.see_update(skipped)
        if not skipped:
            self.trainer.objectives.end_step(self.trainer.model)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        # Here rather than at the epoch's end, so that the epoch's last evaluation and save come after it.
        if float(state.epoch).is_integer():
            self.trainer.objectives.end_epoch(self.trainer.model)
        if state.global_step >= state.max_steps:
            self._end_run()

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and not args.load_best_model_at_end:  # stopped early
            self._end_run()

    def _end_run(self) -> None:
        if self.trainer._early_stage is None:
            self.trainer.objectives.end_run(self.trainer.model)
