"""Which batches a run sees: its seed decides, however many workers and processes share them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..compat.loaders import end_workers, samples_in_last_round, seed_workers
from ..compat.trainer import TrainerHooks
from ..data import ClassFrequencySampler, labels_of
from ..data.samplers import only_whole_batches
from ..objectives.labels import IGNORED, are_soft, counted, ignore
from .arguments import CLASS_SAMPLING, SharpPromptTrainingArguments
from .callbacks import EpochsOrder
from .draws import Draws, IndexedCollator, Seeded, SeededCollator
from .label_check import LabelCheckingCollator, check_class_order, class_names_of, num_classes_of


BY_LENGTH = ("group_by_length", "batch_rebalance")
IMAGE_COLUMNS = ("image", "img", "pixel_values", "image_features")
TARGET_COLUMNS = ("objects", "width", "height", "mask")
"""Columns that collators make the labels of objects and pixels of."""


class SeededTrainer(TrainerHooks):
    """A Trainer whose batches are decided by the seed and the epoch alone, also after a resume.

    What is drawn at random for samples, such as crops, is decided by the seed, the epoch and the batch's samples.
    Samples that Accelerate repeats to fill the last processes' shares do not count, where the loss is divided by
    `num_items_in_batch`. Classes are drawn as `train_sampling_strategy` says. A data set without a length is read as
    it streams by.
    """

    args: SharpPromptTrainingArguments
    collated_columns = IMAGE_COLUMNS + TARGET_COLUMNS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_classes = _make_shared_number()  # of evaluations
        self.add_callback(EpochsOrder())

    @property
    def remembering_samples(self) -> list[str]:
        """The names of the objectives that remember samples, for which batches say which samples they hold."""
        return []

    def get_train_dataloader(self) -> DataLoader:
        """Make the train loader, whose samples see the random numbers of the seed, the epoch and the batch.

        Raises:
            ValueError: Samples only stream by, but are to be remembered, or their number has to be known.
        """
        dataset = self.train_dataset
        if not _streams(dataset):
            return self._make_seeded_train_dataloader()
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
        with self._checking_labels(dataset, _make_shared_number()):
            return super().get_train_dataloader()

    def _make_seeded_train_dataloader(self) -> DataLoader:
        self._check_lengths_are_known()
        dataset, collator, draws = self.train_dataset, self.data_collator, Draws(self._data_seed)
        make_collator = IndexedCollator if self.remembering_samples else SeededCollator
        used, collate = self.drop_unused_columns(dataset, collator)
        self.train_dataset, self.data_collator = Seeded(used, draws), make_collator(collate, draws)
        try:
            with self._checking_labels(dataset, _make_shared_number()):
                loader = super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = dataset, collator
        seed_workers(loader, self._data_seed)
        return loader

    def _check_lengths_are_known(self) -> None:
        """Refuse ways of sampling that look at the lengths of texts, which images do not have."""
        strategy, column = self.args.train_sampling_strategy, self.args.length_column_name
        if strategy in BY_LENGTH and column not in getattr(self.train_dataset, "column_names", ()):
            raise ValueError(
                f"train_sampling_strategy={strategy!r} needs the length of each sample, which images do not have; "
                f"choose another, or add a column {column!r} to the train dataset."
            )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Make the evaluation loader; its workers, if they live on, are not those of another data set."""
        if self.args.dataloader_persistent_workers and eval_dataset is not None and not isinstance(eval_dataset, str):
            self.forget_evaluation_loaders()
        datasets: Any = self.eval_dataset
        dataset = datasets if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = datasets[dataset]
        with self._checking_labels(dataset, self._num_classes):
            loader = super().get_eval_dataloader(eval_dataset)
        if not _streams(loader.dataset):
            seed_workers(loader, self._data_seed)
        return loader

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Make the loader of `predict`; the labels are checked where batches are made."""
        with self._checking_labels(test_dataset, self._num_classes):
            loader = super().get_test_dataloader(test_dataset)
        if not _streams(loader.dataset):
            seed_workers(loader, self._data_seed)
        return loader

    @contextmanager
    def _checking_labels(self, dataset: Any, num_classes: torch.Tensor) -> Iterator[None]:
        """Let loaders that are made in the block check the labels where batches are made.

        Args:
            dataset: The data set as the user passed it.
            num_classes: Where the number of classes is kept: training has its own, since an evaluation in between may
                have other classes.

        Raises:
            ValueError: The classes of the data set are not those of the model.
        """
        check_class_order(dataset, class_names_of(self.model))
        num_classes.fill_(num_classes_of(self.model))
        collator = self.data_collator
        self.data_collator = LabelCheckingCollator(collator, num_classes)
        try:
            yield
        finally:
            self.data_collator = collator

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as the Trainer does; labels are checked against the classes that the model has now.

        Workers live on between the evaluations of a run, and end with an evaluation outside of one.
        """
        self._num_classes.fill_(num_classes_of(self.model))
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            if not self.is_in_train:
                self.forget_evaluation_loaders()

    def make_train_sampler(self, dataset: Any) -> Sampler | None:
        """Return the sampler that `train_sampling_strategy` and `drop_last_train_batch` ask for."""
        dataset = dataset.dataset if isinstance(dataset, Seeded) else dataset
        exponent = CLASS_SAMPLING.get(self.args.train_sampling_strategy)
        if exponent is None:
            sampler = super().make_train_sampler(dataset)
        else:
            sampler = ClassFrequencySampler(list(labels_of(dataset)), exponent, self._data_seed)
        if sampler is None or not self.args.drop_last_train_batch:
            return sampler
        return only_whole_batches(sampler, self.get_total_train_batch_size(self.args))

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """Return a step's batches and how many of their samples count, over all processes.

        Samples that only fill up the last processes' shares do not count. The Trainer counts elements of labels. Here
        soft labels, samples × classes, count once for each sample. The number is at least 1, so that the loss of a
        step whose labels are all ignored is 0.

        Raises:
            ValueError: The labels are soft, and an argument needs class indices.
        """
        batches = [self._ignore_repeated(batch) for batch in islice(epoch_iterator, num_batches)]
        if any(map(_has_soft_labels, batches)):
            self._check_soft_labels_fit()
        indexed = [
            {**batch, "labels": torch.where(counted(batch["labels"]), 0, IGNORED)}
            if _has_soft_labels(batch)
            else batch
            for batch in batches
        ]
        _, number = super().get_batch_samples(iter(indexed), len(indexed), device)
        return batches, number.clamp(min=1) if torch.is_tensor(number) else number

    def _check_soft_labels_fit(self) -> None:
        needing_indices = {
            "label_smoothing_factor": self.args.label_smoothing_factor,
            "loss": self.args.loss,
            "reweighting_beta": self.args.reweighting_beta,
            f"sharpness={self.args.sharpness!r}": self.args.sharpness_rule.tells_classes_apart,
        }
        if needing := [name for name, value in needing_indices.items() if value]:
            raise ValueError(
                f"The labels are probabilities of the classes, but {' and '.join(needing)} needs class indices; leave "
                "it out, or train without mixup and CutMix."
            )

    def _ignore_repeated(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ignore the labels of samples that Accelerate repeats so that the processes' last batches are of one size.

        Where the Trainer takes the mean of each process's loss, and not of all samples', they stay.
        """
        if not self.accelerator.gradient_state.end_of_dataloader or "labels" not in batch:
            return batch
        left = samples_in_last_round(self.callback_handler.train_dataloader)
        counts_samples = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
        if left is None or not counts_samples or not self.args.average_tokens_across_devices:
            return batch
        labels = batch["labels"]
        first = self.accelerator.process_index * len(labels)
        repeated = torch.arange(first, first + len(labels), device=labels.device) >= left
        return {**batch, "labels": ignore(labels, repeated)}

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as the Trainer does; workers end with the run."""
        try:
            return super().train(*args, **kwargs)
        finally:
            end_workers(self.callback_handler.train_dataloader)
            self.forget_evaluation_loaders()


def _streams(dataset: Any) -> bool:
    """Tell whether samples stream by and cannot be asked for by their number."""
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")


def _make_shared_number() -> torch.Tensor:
    """Return a number in memory that is shared with workers, so that those that live on see it change."""
    return torch.zeros((), dtype=torch.long).share_memory_()


def _has_soft_labels(batch: dict[str, Any]) -> bool:
    return torch.is_tensor(batch.get("labels")) and are_soft(batch["labels"])
