"""SubPT's early stage: the first epochs of a run, taken to see where it moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..sharpness.step.parameters import ParameterVector
from ..sharpness.subspace import Subspace


SNAPSHOTS_NAME = "snapshots.safetensors"
SUBSPACE_NAME = "subspace.safetensors"


class EarlyStage(TrainerCallback):
    """Keeps the parameters after each of a run's first epochs, evaluates nothing, and stops after them.

    Args:
        epochs: How many epochs it takes.

    Attributes:
        initial: The parameters that the run began with, a flat vector.
        snapshots: Those after each epoch.
    """

    def __init__(self, epochs: int) -> None:
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
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **kwargs: Any
    ) -> None:
        if state.num_train_epochs < self.epochs:
            raise ValueError(
                f"subspace_epochs is {self.epochs}, but the run has {state.num_train_epochs} epochs; the subspace is "
                "that of its first epochs, so set subspace_epochs lower or train longer."
            )
        if self.initial is None:
            self.initial = ParameterVector(model).read().cpu()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **kwargs: Any
    ) -> None:
        control.should_evaluate = False
        # Here rather than at the epoch's end, where a save may be over.
        if (state.epoch or 0) >= len(self.snapshots) + 1:
            self.snapshots.append(ParameterVector(model).read().cpu())
            control.should_training_stop |= self.is_over

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_evaluate = False


class Restart(TrainerCallback):
    """Begins a run with given parameters, and logs the subspace that it moves in.

    Args:
        initial: The parameters, a flat vector.
        subspace: The subspace.
        log: Logs values by name.
    """

    def __init__(self, initial: torch.Tensor, subspace: Subspace, log: Callable[[dict[str, float]], None]) -> None:
        self.initial, self.subspace, self.log = initial, subspace, log

    def on_train_begin(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        ParameterVector(model).write(self.initial)
        shares = self.subspace.explained_variance_ratio.tolist()
        self.log({f"subspace_variance_{index}": share for index, share in enumerate(shares, 1)})


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
