"""SubPT's two stages: an early one that shows where the run moves, and the run itself, within that subspace."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.trainer_utils import TrainOutput

from ..compat.trainer import TrainerHooks
from ..sharpness.step.parameters import ParameterVector
from ..sharpness.subspace import Subspace
from .arguments import SharpPromptTrainingArguments


SNAPSHOTS_NAME = "snapshots.safetensors"
SUBSPACE_NAME = "subspace.safetensors"
EARLY_DIRECTORY = "_early"
"""Where the early stage's checkpoints are. The underscore keeps them from being pushed to the Hub."""


class EarlyStage(TrainerCallback):
    """Keeps the parameters after each of a run's first epochs, evaluates nothing, and stops after them.

    Args:
        epochs: How many epochs it takes.

    Attributes:
        initial: The parameters that the run began with, a flat vector; None until it begins.
        snapshots: The parameters after each epoch.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.initial: torch.Tensor | None = None
        self.snapshots: list[torch.Tensor] = []

    @property
    def is_over(self) -> bool:
        """True if all of its epochs have been trained."""
        return len(self.snapshots) == self.epochs

    def find_subspace(self, rank: int) -> Subspace:
        """Return the subspace of this rank in which the run moved."""
        return Subspace.of(torch.stack(self.snapshots), rank)

    def save(self, checkpoint: str | Path) -> None:
        """Write what is known into a checkpoint of the stage."""
        if self.initial is not None:
            snapshots = torch.stack([self.initial, *self.snapshots])[1:]
            save_file({"initial": self.initial, "snapshots": snapshots}, Path(checkpoint, SNAPSHOTS_NAME))

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
            self.initial = ParameterVector(kwargs["model"]).read().cpu()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_evaluate = False
        # Here rather than at the epoch's end, where a save may be over.
        if (state.epoch or 0) >= len(self.snapshots) + 1:
            self.snapshots.append(ParameterVector(kwargs["model"]).read().cpu())
            control.should_training_stop |= self.is_over

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_evaluate = False


class Restart(TrainerCallback):
    """Begins a run at the parameters where the early stage began, and logs the subspace that it moves in.

    Args:
        initial: The parameters, a flat vector.
        subspace: The subspace.
        log: Logs values by name.
    """

    def __init__(self, initial: torch.Tensor, subspace: Subspace, log: Callable[[dict[str, float]], None]) -> None:
        self.initial, self.subspace, self.log = initial, subspace, log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        ParameterVector(kwargs["model"]).write(self.initial)
        shares = self.subspace.explained_variance_ratio.tolist()
        self.log({f"subspace_variance_{index}": share for index, share in enumerate(shares, 1)})


class SubspaceTrainer(TrainerHooks):
    """A Trainer that runs both of SubPT's stages in one call of `train`, where `subspace_epochs` asks for it.

    The early stage evaluates nothing and pushes nothing. Its checkpoints are in a folder of `output_dir` that is
    removed at the end.

    Attributes:
        subspace: The subspace that the run is confined to, once it is known.
        early_stage: The early stage while it runs.
    """

    args: SharpPromptTrainingArguments
    subspace: Subspace | None = None
    early_stage: EarlyStage | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as the Trainer does; with `subspace_epochs` the run has two stages, and may be resumed in either."""
        self.subspace = None
        epochs, rank = self.args.subspace_epochs, self.args.subspace_rank
        if epochs is None or rank is None:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        checkpoint = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        if checkpoint is not None and not Path(checkpoint, SNAPSHOTS_NAME).is_file():
            self.subspace = load_subspace(checkpoint, rank)
            output = super().train(checkpoint, *args, **kwargs)
        else:
            early = EarlyStage(epochs)
            if checkpoint is not None:
                early.load(checkpoint)
            if not early.is_over:
                with self._running_early_stage(early):
                    super().train(checkpoint, *args, **kwargs)
            assert early.initial is not None  # from its beginning, or from the checkpoint
            self.subspace = early.find_subspace(rank)
            set_seed(self.args.seed)
            with self._callback(Restart(early.initial, self.subspace, self.log)):
                output = super().train(None, *args, **kwargs)
        if self.is_world_process_zero():
            shutil.rmtree(self.early_directory, ignore_errors=True)
        return output

    @contextmanager
    def _running_early_stage(self, early: EarlyStage) -> Iterator[None]:
        """Run the early stage in the block; the optimizer is as it was before it, or is made again."""
        state = None if self.optimizer is None else copy.deepcopy(self.optimizer.state_dict())
        self.early_stage = early
        try:
            with self._callback(early):
                yield
        finally:
            self.early_stage = None
        if state is None:
            self.optimizer = None
        elif self.optimizer is not None:
            self.optimizer.load_state_dict(state)

    @contextmanager
    def _callback(self, callback: TrainerCallback) -> Iterator[None]:
        self.add_callback(callback)
        try:
            yield
        finally:
            self.remove_callback(callback)

    @property
    def early_directory(self) -> Path:
        """Where the early stage's checkpoints are."""
        return self.output_directory / EARLY_DIRECTORY

    def find_checkpoint_directory(self, trial: Any = None) -> str:
        """Return the directory of this stage's checkpoints."""
        directory = super().find_checkpoint_directory(trial)
        return directory if self.early_stage is None else os.path.join(directory, EARLY_DIRECTORY)

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Push a checkpoint of the run; those of the early stage stay here."""
        if self.early_stage is None:
            super().push_checkpoint(checkpoint)

    def save_run_state(self, checkpoint: Path) -> None:
        """Add to a checkpoint the snapshots of the early stage, or the subspace of the run."""
        if self.args.should_save:
            if self.early_stage is not None:
                self.early_stage.save(checkpoint)
            if self.subspace is not None:
                save_subspace(self.subspace, checkpoint)
        super().save_run_state(checkpoint)


def save_subspace(subspace: Subspace, checkpoint: str | Path) -> None:
    """Write a subspace into a checkpoint."""
    save_file(vars(subspace), Path(checkpoint, SUBSPACE_NAME))


def load_subspace(checkpoint: str | Path, rank: int) -> Subspace:
    """Read the subspace of a checkpoint.

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
