"""How far a Trainer is, as progress."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .. import progress
from ..together.session import check_not_stopped, name_of_run


TRAINING = "training"


class ProgressOfMany:
    """Shows the progress of several runs at once as one: of all their steps, those that are taken.

    A run that is to end, ends where it reports next.

    Args:
        display: Where it is shown.
    """

    def __init__(self, display: progress.Display) -> None:
        self._display = display
        self._steps: dict[str | None, tuple[int, int]] = {}

    def show(self, stage: str, done: int | None, total: int | None, of: str | None = None) -> None:
        check_not_stopped()
        if stage == TRAINING and done is not None and total is not None:
            self._steps[name_of_run()] = done, total
            done, total = (sum(counts) for counts in zip(*self._steps.values(), strict=True))
        self._display.show(stage, done, total, of)

    def end(self, of: str | None) -> None:
        self._display.end(of)

    def hide(self) -> None:
        self._display.hide()


class ReportsProgress(TrainerCallback):
    """Reports the steps of training, and the batches of measuring."""

    def __init__(self) -> None:
        self._measured = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        progress.report(TRAINING, state.global_step, state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        progress.report(TRAINING, state.global_step, state.max_steps)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: DataLoader[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._measured += 1
        progress.report("measuring", self._measured, None if eval_dataloader is None else len(eval_dataloader))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._measured = 0
