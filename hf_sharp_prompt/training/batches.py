"""Which batches a run sees: those of its seed, each sample once, however many workers and processes share them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import DataLoader, IterableDataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..data import ClassFrequencySampler, labels_of
from ..data.samplers import only_whole_batches
from ..objectives.labels import IGNORED, are_soft, counted, ignore
from .arguments import CLASS_SAMPLING, SharpPromptTrainingArguments
from .draws import Draws, IndexedCollator, Seeded, SeededCollator
from .label_check import LabelCheckingCollator, check_class_order, class_names_of, num_classes_of


BY_LENGTH = ("group_by_length", "batch_rebalance")
IMAGE_COLUMNS = ("image", "img", "pixel_values", "image_features")


class SeededTrainer(Trainer):
    """A Trainer whose batches are of the seed, the epoch and nothing else, also after a resume.

    What is drawn at random for samples, such as crops, is of the seed, the epoch and the batch's samples. Samples that
    Accelerate repeats to fill the last processes' shares do not count, where the loss is divided by
    `num_items_in_batch`. Classes are drawn as `train_sampling_strategy` says. What only streams by is as it comes.
    """

    args: SharpPromptTrainingArguments

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_classes = torch.zeros((), dtype=torch.long).share_memory_()  # of evaluations
        self.add_callback(EpochsOrder())

    @property
    def remembering_samples(self) -> list[str]:
        """The names of what remembers samples, so that batches have to say which ones they hold."""
        return []

    def get_train_dataloader(self) -> DataLoader:
        """As the Trainer's, but for the random numbers that samples see.

        Raises:
            ValueError: Samples only stream by, but are to be remembered, or their number has to be known.
        """
        dataset = self.train_dataset
        if not _streams(dataset):
            return self._get_seeded_train_dataloader()
        if dataset is not None and (asked := self.args.arguments_that_need_a_length):
            raise ValueError(
                f"{', '.join(asked)} needs the number of samples of an epoch, but a {type(dataset).__name__} has no "
                "length: its samples only stream by. Load it without streaming=True, or leave the argument out."
            )
        if dataset is not None and self.remembering_samples:
            raise ValueError(
                f"{', '.join(self.remembering_samples)} remembers each sample of the train dataset, but a "
                f"{type(dataset).__name__} has no length: its samples only stream by. Load it without streaming=True."
            )
        return super().get_train_dataloader()

    def _get_seeded_train_dataloader(self) -> DataLoader:
        self._check_lengths_are_known()
        dataset, collator, draws = self.train_dataset, self.data_collator, Draws(self._data_seed)
        make_collator = IndexedCollator if self.remembering_samples else SeededCollator
        try:
            if isinstance(dataset, datasets.Dataset):
                self.train_dataset = Seeded(self._remove_unused_columns(dataset, "training"), draws)
                self.data_collator = make_collator(collator, draws)
            else:
                self.train_dataset = Seeded(dataset, draws)
                self.data_collator = make_collator(
                    self._get_collator_with_removed_columns(collator, "training"), draws
                )
            return super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = dataset, collator

    def _check_lengths_are_known(self) -> None:
        """Refuse ways of sampling that look at the lengths of texts, which images do not have."""
        strategy, column = self.args.train_sampling_strategy, self.args.length_column_name
        if strategy in BY_LENGTH and column not in getattr(self.train_dataset, "column_names", ()):
            raise ValueError(
                f"train_sampling_strategy={strategy!r} needs the length of each sample, which images do not have; "
                f"choose another, or add a column {column!r} to the train dataset."
            )

    def _set_signature_columns_if_needed(self) -> None:
        """As the Trainer's, and besides what the collator makes inputs of."""
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in IMAGE_COLUMNS if name not in self._signature_columns]

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As the Trainer's, whose workers that live on would go on with the data set that they were started for."""
        if self.args.dataloader_persistent_workers and eval_dataset is not None and not isinstance(eval_dataset, str):
            getattr(self, "_eval_dataloaders", {}).pop("eval", None)
        return super().get_eval_dataloader(eval_dataset)

    def _get_dataloader(self, dataset: Any, *args: Any, is_training: bool = False, **kwargs: Any) -> DataLoader:
        """As the Trainer's; the labels are checked where batches are made.

        Raises:
            ValueError: The classes of the data set are not those of the model.
        """
        check_class_order(dataset.dataset if isinstance(dataset, Seeded) else dataset, class_names_of(self.model))
        collator, num_classes = self.data_collator, self._num_classes
        if is_training:  # which may be interrupted by an evaluation among other classes
            num_classes = num_classes.clone().share_memory_()
        num_classes.fill_(num_classes_of(self.model))
        self.data_collator = LabelCheckingCollator(collator, num_classes)
        try:
            loader = super()._get_dataloader(dataset, *args, is_training=is_training, **kwargs)
        finally:
            self.data_collator = collator
        if not _streams(loader.dataset):
            # This seeds the workers. By default their seeds are drawn from the random numbers that models see, when
            # workers start, which in a resumed run is at other times.
            _loader_of_torch(loader).generator = torch.Generator().manual_seed(self._data_seed)
        return loader

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As the Trainer's; labels are checked against the classes that the model has now."""
        self._num_classes.fill_(num_classes_of(self.model))
        return super().evaluation_loop(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        dataset = dataset.dataset if isinstance(dataset, Seeded) else dataset
        exponent = CLASS_SAMPLING.get(self.args.train_sampling_strategy)
        if exponent is None:
            sampler = super()._get_train_sampler(dataset)
        else:
            sampler = ClassFrequencySampler(labels_of(dataset), exponent, self._data_seed)
        if not self.args.drop_last_train_batch:
            return sampler
        return only_whole_batches(sampler, self.get_total_train_batch_size(self.args))

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """As the Trainer's; samples that only fill up the last processes' shares do not count."""
        return super().get_batch_samples(map(self._ignore_repeated, epoch_iterator), num_batches, device)

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Any]], device: torch.device
    ) -> torch.Tensor | int | None:
        """As the Trainer's, which counts elements: soft labels, samples × classes, count once for each sample.

        At least 1, so that the loss of a step whose labels are all ignored is 0.

        Raises:
            ValueError: Soft labels, and an argument that needs class indices.
        """
        if any(torch.is_tensor(batch.get("labels")) and are_soft(batch["labels"]) for batch in batch_samples):
            self._check_soft_labels_fit()
        each = [
            {**batch, "labels": torch.where(counted(batch["labels"]), 0, IGNORED)}
            if torch.is_tensor(batch.get("labels")) and are_soft(batch["labels"])
            else batch
            for batch in batch_samples
        ]
        number = super()._get_num_items_in_batch(each, device)
        return number.clamp(min=1) if torch.is_tensor(number) else number  # a step may have none that counts

    def _check_soft_labels_fit(self) -> None:
        needing_indices = {
            "label_smoothing_factor": self.args.label_smoothing_factor,
            "loss": self.args.loss,
            "reweighting_beta": self.args.reweighting_beta,
            "sharpness='imbsam'": self.args.sharpness == "imbsam",
        }
        if given := [name for name, value in needing_indices.items() if value]:
            raise ValueError(
                f"The labels are probabilities of the classes, but {' and '.join(given)} needs class indices; leave "
                "it out, or train without mixup and CutMix."
            )

    def _ignore_repeated(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ignore the labels of samples that Accelerate repeats so that the processes' last batches are of one size.

        Where the Trainer takes the mean of each process's loss, and not of all samples', they stay.
        """
        if not self.accelerator.gradient_state.end_of_dataloader or "labels" not in batch:
            return batch
        left = _samples_in_last_round(self.callback_handler.train_dataloader)
        counts_samples = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
        if left is None or not counts_samples or not self.args.average_tokens_across_devices:
            return batch
        labels = batch["labels"]
        first = self.accelerator.process_index * len(labels)
        repeated = torch.arange(first, first + len(labels), device=labels.device) >= left
        return {**batch, "labels": ignore(labels, repeated)}

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        try:
            return super()._inner_training_loop(*args, **kwargs)
        finally:
            self._end_workers()

    def _end_workers(self) -> None:
        """End the workers that live on between epochs; left to the garbage collector each makes it wait for 5 s."""
        loader = _loader_of_torch(self.callback_handler.train_dataloader)
        if getattr(loader, "_iterator", None) is not None:
            loader._iterator = None


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


def _streams(dataset: Any) -> bool:
    """Whether samples come by instead of being asked for."""
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")


def _loader_of_torch(loader: Any) -> Any:
    """What Accelerate's loaders get their batches from."""
    return getattr(loader, "base_dataloader", loader)


def _samples_in_last_round(loader: DataLoader) -> int | None:
    """How many samples are left for the processes' last batches together, where Accelerate fills them up."""
    shard = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard) or not shard.even_batches or shard.drop_last or not shard.batch_size:
        return None
    in_a_round = shard.batch_size * (1 if shard.split_batches else shard.num_processes)
    return len(shard.batch_sampler.sampler) % in_a_round or None
