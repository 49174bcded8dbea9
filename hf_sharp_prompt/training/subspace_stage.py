"""SubPT's early stage: the first epochs of a run, taken to see where it moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..sharpness.subspace import Subspace


if TYPE_CHECKING:
    from .trainer import SharpPromptTrainer

SNAPSHOTS_NAME = "snapshots.safetensors"
SUBSPACE_NAME = "subspace.safetensors"


class EarlyStage(TrainerCallback):
    """Keeps the parameters after each of a run's first epochs, evaluates nothing, and stops behind them.

    Args:
        trainer: Whose run it is.
        epochs: How many epochs it takes.

    Attributes:
        initial: The parameters that the run began with, a flat vector.
        snapshots: Those after each epoch.
    """

    def __init__(self, trainer: SharpPromptTrainer, epochs: int) -> None:
        self.trainer = trainer
        self.epochs = epochs
        self.initial: torch.Tensor | None = None
        self.snapshots: list[torch.Tensor] = []

    @property
    def is_over(self) -> bool:
        return len(self.snapshots) == self.epochs

    def find_subspace(self, rank: int) -> Subspace:
        """Where the run moved."""
        return Subspace.of(torch.stack(self.snapshots), rank)

    def save(self, checkpoint: str | Path) -> None:
        """Write what is known into a checkpoint of the stage."""
        path = Path(checkpoint, SNAPSHOTS_NAME)
        save_file({"initial": self.initial, "snapshots": torch.stack([self.initial, *self.snapshots])[1:]}, path)

    def load(self, checkpoint: str | Path) -> None:
        """Go on from a checkpoint of the stage."""
        tensors = load_file(Path(checkpoint, SNAPSHOTS_NAME))
        self.initial, self.snapshots = tensors["initial"], list(tensors["snapshots"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.num_train_epochs < self.epochs:
            raise ValueError(
                f"subspace_epochs is {self.epochs}, but the run has {state.num_train_epochs} epochs; the subspace is "
                "that of its first epochs, so set subspace_epochs lower or train longer."
            )
        if self.initial is None:
            self.initial = self.trainer.sharpness.parameters.read().cpu()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_evaluate = False
        if state.epoch >= len(self.snapshots) + 1:  # here rather than at the epoch's end, where a save may be over
            self.snapshots.append(self.trainer.sharpness.parameters.read().cpu())
            control.should_training_stop |= self.is_over

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_evaluate = False


class Restart(TrainerCallback):
    """Begins a run with given parameters, and logs the subspace that it moves in."""

    def __init__(self, trainer: SharpPromptTrainer, initial: torch.Tensor) -> None:
        self.trainer, self.initial = trainer, initial

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.sharpness.parameters.write(self.initial)
        shares = self.trainer.subspace.explained_variance_ratio.tolist()
        self.trainer.log({f"subspace_variance_{index}": share for index, share in enumerate(shares, 1)})


def save_subspace(subspace: Subspace, checkpoint: str | Path) -> None:
    """Write a subspace into a checkpoint."""
    save_file(vars(subspace), Path(checkpoint, SUBSPACE_NAME))


def load_subspace(checkpoint: str | Path, rank: int) -> Subspace:
    """Read it again.

    Raises:
        ValueError: The checkpoint has none, or one of another rank.
    """
    path = Path(checkpoint, SUBSPACE_NAME)
    if not path.is_file():
        raise ValueError(
            f"{checkpoint} is of a run without a subspace; resume without subspace_epochs, or start in another "
            "output_dir."
        )
    subspace = Subspace(**load_file(path))
    if (found := len(subspace.components)) != rank:
        raise ValueError(
            f"{checkpoint} is of a run in a subspace of rank {found}, but subspace_rank is {rank}; resume with "
            f"subspace_rank={found} or start in another output_dir."
        )
    return subspace
