"""Images as experiments hold them: data sets whose images are decoded in every step, and what is in memory."""

from __future__ import annotations

from typing import Any, TypeAlias

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader, Dataset

from ..data import ImageCollator, ImageFeatures, fingerprint
from ..training.arguments import SharpPromptTrainingArguments


class Pixels(Dataset[dict[str, torch.Tensor]]):
    """Images as the model takes them, made once and kept in memory.

    Args:
        images: A data set with an `image` and a `label` column.
        collator: Makes the pixel values.
    """

    def __init__(self, images: datasets.Dataset, collator: ImageCollator) -> None:
        batch = collator(list(images))
        self.pixel_values, self.labels = batch["pixel_values"], batch["labels"]
        self.class_names: list[str] = images.features["label"].names

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


Images: TypeAlias = datasets.Dataset | ImageFeatures | Pixels


def class_names(images: Images) -> list[str]:
    """The names of the images' classes, by label."""
    return images.features["label"].names if isinstance(images, datasets.Dataset) else images.class_names


def load_in_order(
    images: Images, collator: ImageCollator, training: SharpPromptTrainingArguments
) -> DataLoader[dict[str, Any]]:
    """Make batches to measure on: not augmented, and decoded in workers if there is anything to decode."""
    return DataLoader(
        images,  # type: ignore[arg-type]  # A datasets.Dataset has a torch Dataset's methods, but not its type.
        training.eval_batch_size,
        collate_fn=collator,
        num_workers=training.dataloader_num_workers if isinstance(images, datasets.Dataset) else 0,
        pin_memory=bool(training.dataloader_pin_memory),
    )


def fingerprint_on_main(splits: datasets.DatasetDict) -> str:
    """The fingerprint of images and labels, which the main process reads for all."""
    (found,) = broadcast_object_list([fingerprint(splits) if PartialState().is_main_process else None])
    return found
