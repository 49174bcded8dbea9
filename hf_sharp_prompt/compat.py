"""What reaches into peft, transformers or accelerate: each place with its reason and the versions it was read on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import datasets
import torch
from accelerate.data_loader import BatchSamplerShard
from peft.config import PeftConfigMixin
from peft.utils import CONFIG_NAME
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .hub import what_the_hub_said


def explain_failed_loading() -> None:
    """Let PEFT say why an adapter's config cannot be read.

    `PeftModel.from_pretrained` first looks the method's name up in the config. Where that fails, it says only that it
    "Can't find" the file, whatever the Hub answered, and a file that is no JSON, or names no method, ends in the
    error of a parser or a bare `KeyError`. There is no hook before that look-up, so it is wrapped here. Nothing else
    changes: what could be loaded loads, and the types of errors are those of PEFT or a `ValueError`.

    Read on peft 0.21.2.
    """
    look_up = PeftConfigMixin._get_peft_type.__func__  # type: ignore[attr-defined]
    if getattr(look_up, "explains", False):
        return

    @functools.wraps(look_up)
    def explained(cls: type[PeftConfigMixin], model_id: str, **kwargs: Any) -> str:
        try:
            return look_up(cls, model_id, **kwargs)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"The {CONFIG_NAME} of {model_id} is no JSON ({error}); load the adapter again."
            ) from error
        except KeyError as error:
            raise ValueError(
                f"The {CONFIG_NAME} of {model_id} has no field {error}, which names the method."
            ) from error
        except ValueError as error:
            cause = error.__cause__ or error.__context__
            if cause is None or not str(error).startswith("Can't find"):
                raise
            raise ValueError(f"{error}: {what_the_hub_said(cause)}.") from error

    explained.explains = True  # type: ignore[attr-defined]
    PeftConfigMixin._get_peft_type = classmethod(explained)  # type: ignore[method-assign,assignment]


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

    def forget_evaluation_loader(self) -> None:
        """Make the next evaluation start new workers.

        With persistent workers the Trainer keeps the loader, and with it the data set that it was made for.
        """
        getattr(self, "_eval_dataloaders", {}).pop("eval", None)

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


def seed_workers(loader: Any, seed: int) -> None:
    """Seed the workers of a loader that has no generator.

    By default their seeds are drawn from the random numbers that models see, when workers start, which in a resumed
    run is at other times.

    Read on accelerate 1.15.0.
    """
    base = find_base_loader(loader)
    if base.generator is None:
        base.generator = torch.Generator().manual_seed(seed)


def end_workers(loader: Any) -> None:
    """End the workers that live on between epochs. Left to the garbage collector, each makes it wait for 5 seconds.

    Read on torch 2.13.0, which has no public way to end persistent workers.
    """
    base = find_base_loader(loader)
    if getattr(base, "_iterator", None) is not None:
        base._iterator = None


def find_base_loader(loader: Any) -> Any:
    """Return torch's loader, from which an Accelerate loader takes its batches.

    Read on accelerate 1.15.0.
    """
    return getattr(loader, "base_dataloader", loader)


def samples_in_last_round(loader: Any) -> int | None:
    """Return how many samples are left for the processes' last batches together, where Accelerate fills them up.

    Accelerate repeats samples of the epoch's beginning there, and only `gather_for_metrics` takes them out again.

    Read on accelerate 1.15.0.

    Returns:
        The number of samples; None where nothing is repeated.
    """
    shard = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard) or not shard.even_batches or shard.drop_last or not shard.batch_size:
        return None
    in_a_round = shard.batch_size * (1 if shard.split_batches else shard.num_processes)
    return len(shard.batch_sampler.sampler) % in_a_round or None
