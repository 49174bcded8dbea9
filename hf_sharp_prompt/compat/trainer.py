"""The Trainer's private hooks, under public names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import datasets
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .loaders import end_workers


class TrainerHooks(Trainer):
    """A Trainer whose private methods that this package changes call hooks with public names.

    Each private method is overridden here, once, and nowhere else. It calls the hook above it, which by default does
    what the Trainer does. `tests/training/test_trainer_internals.py` fails with a sentence when a release of
    transformers changes what is relied on.

    Read on transformers 5.24.0.

    Attributes:
        model: The model, which the Trainer also allows to be None until `model_init` has made it.
        collated_columns: The columns that a collator makes inputs of, so that they are not dropped as unused.
    """

    model: nn.Module
    collated_columns: ClassVar[Sequence[str]] = ()

    @property
    def output_directory(self) -> Path:
        """`args.output_dir`, which is only annotated as if it could be None."""
        return Path(str(self.args.output_dir))

    def make_train_sampler(self, dataset: Any) -> Sampler | None:
        """Return the sampler of the train dataset; None where samples only stream by.

        The public alternative is to make the whole data loader, with its workers and its sharding, again.
        """
        return super()._get_train_sampler(dataset)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        return self.make_train_sampler(self.train_dataset if train_dataset is None else train_dataset)

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the columns that become inputs, besides those that the model's forward names.

        The Trainer only knows the names of the forward's arguments, and images have another name in a data set.
        """
        super()._set_signature_columns_if_needed()
        kept: list[str] = self._signature_columns or []
        columns = [*kept, *(name for name in self.collated_columns if name not in kept)]
        self._signature_columns = columns  # type: ignore[assignment]  # annotated as None, its value in __init__

    def drop_unused_columns(self, dataset: Any, collator: Callable) -> tuple[Any, Callable]:
        """Return the train dataset and the collator without unused columns, as `remove_unused_columns` says.

        The Trainer does this when it makes the data loader. That is too late for a data set that is wrapped.
        """
        if isinstance(dataset, datasets.Dataset):
            return self._remove_unused_columns(dataset, "training"), collator
        return dataset, self._get_collator_with_removed_columns(collator, "training")

    def place_model(self, model: nn.Module, device: torch.device) -> None:
        """Put a model on the device before it trains or is evaluated."""
        super()._move_model_to_device(model, device)

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        self.place_model(model, device)

    def owns_its_reduction(self, model: nn.Module) -> bool:
        """Tell whether a model must not be wrapped in DistributedDataParallel."""
        return False

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: DataLoader | None = None) -> nn.Module:
        """Let Accelerate prepare a model's precision alone, where it must not be wrapped.

        The Trainer does so itself with models that transformers has sharded while it loaded them, and with them it
        can neither save an optimizer nor leave gradients to be reduced by others.
        """
        if self.owns_its_reduction(model):
            self.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
            model._is_accelerate_prepared = True  # type: ignore[assignment]  # how Accelerate marks it
        return super()._wrap_model(model, training, dataloader)

    def forget_evaluation_loaders(self) -> None:
        """End the workers of evaluation loaders; the next evaluation starts new ones.

        With persistent workers the Trainer keeps the loaders, and with them the data sets that they were made for.
        """
        kept = getattr(self, "_eval_dataloaders", {})
        for loader in kept.values():
            end_workers(loader)
        kept.clear()

    def use_scheduler(self, scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
        """Take a scheduler for this run. The next call of `train` makes another one."""
        self.lr_scheduler = scheduler  # type: ignore[assignment]  # annotated as LambdaLR, used as any LRScheduler
        self._created_lr_scheduler = True

    def find_checkpoint_directory(self, trial: Any = None) -> str:
        """Return the directory of the checkpoints.

        It differs from `args.output_dir` in SubPT's early stage. Callbacks such as TensorBoard's also write to
        `args.output_dir`, so that this argument cannot be changed instead.
        """
        return super()._get_output_dir(trial)

    def _get_output_dir(self, trial: Any) -> str:
        return self.find_checkpoint_directory(trial)

    @contextmanager
    def saving_checkpoint(self, checkpoint: Path) -> Iterator[None]:
        """Save a checkpoint in the block. Callbacks hear of it only after it is saved, and not if that fails."""
        yield

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self.saving_checkpoint(Path(self.find_checkpoint_directory(trial), name)):
            super()._save_checkpoint(model, trial)

    def save_run_state(self, checkpoint: Path) -> None:
        """Add to a checkpoint what a resumed run needs besides the Trainer's state.

        Every process calls it when all of them have written their files, and before `trainer_state.json` is written
        and the checkpoint is pushed. No callback is called then.
        """

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        self.save_run_state(Path(output_dir))

    def load_run_state(self, checkpoint: Path) -> None:
        """Read what `save_run_state` wrote, after the optimizer is made and before the first step."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.load_run_state(Path(checkpoint))

    def load_best_model(self, checkpoint: str) -> None:
        """Load the best checkpoint at the end of a run."""
        super()._load_best_model()

    def _load_best_model(self) -> None:
        self.load_best_model(str(self.state.best_model_checkpoint))

    def load_model(self, checkpoint: str) -> None:
        """Load the model of a checkpoint, with adapters of any name, as a resumed run does.

        The Trainer's way to load the best model only finds adapters called "default".
        """
        self._load_from_checkpoint(checkpoint)

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Push the model, and what the arguments ask for, after a checkpoint was saved.

        The Trainer pushes `output_dir` with whatever lies in it, and no argument chooses the files.
        """
        super()._push_from_checkpoint(str(checkpoint))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        self.push_checkpoint(Path(checkpoint_folder))

    def finish_push(self) -> None:
        """Wait for the pushes that are under way."""
        self._finish_current_push()
