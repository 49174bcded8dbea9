"""A Trainer whose checkpoints are whole, and which goes on from the newest of these."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel

from ..compat.trainer import TrainerHooks
from .checkpoint import TRAINER_STATE_NAME, choose_checkpoint, discard_interrupted, was_interrupted, write_manifest


class CheckpointingTrainer(TrainerHooks):
    """A Trainer whose checkpoints are whole or are recognised as incomplete.

    `trainer_state.json` is written last, so a checkpoint without it was interrupted. A manifest names all files and
    their sizes, so that an incomplete copy is recognised, too.
    """

    @contextmanager
    def saving_checkpoint(self, checkpoint: Path) -> Iterator[None]:
        """Save a checkpoint in the block; what a failed save leaves is removed."""
        if self.args.should_save:  # A run that was resumed earlier may save this step's checkpoint again.
            (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)
        try:
            yield
        except BaseException:
            if was_interrupted(checkpoint):  # It is not if only pushing it, or removing older ones, failed.
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise

    def save_run_state(self, checkpoint: Path) -> None:
        """Write the manifest: all files are there now except the Trainer's state, which is written last."""
        if self.args.should_save:
            write_manifest(checkpoint)

    def load_best_model(self, checkpoint: str) -> None:
        """Load the best checkpoint, wherever its adapters are: those not called "default" have their own folders.

        Raises:
            ValueError: The best checkpoint is not there any more.
        """
        if isinstance(self.model, PeftModel):
            self.load_model(checkpoint)
        else:
            super().load_best_model(checkpoint)

    def choose_checkpoint(self, wanted: str | Path | bool | None, directories: Sequence[Path]) -> str | None:
        """Choose the checkpoint that the run goes on from, and remove those that an interrupted save left.

        Args:
            wanted: As `train` takes it: a checkpoint, True for the newest one, or a false value for none.
            directories: Where checkpoints may be, the preferred first.

        Returns:
            The checkpoint; None to start from the beginning.

        Raises:
            ValueError: The checkpoint is damaged, or there is none.
        """
        if not wanted:
            return None
        chosen = choose_checkpoint(wanted, directories, self.args.world_size)
        self.accelerator.wait_for_everyone()
        if wanted is True and self.is_world_process_zero():
            for directory in directories:
                discard_interrupted(directory)
        self.accelerator.wait_for_everyone()
        return None if chosen is None else str(chosen)
