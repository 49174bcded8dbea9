"""Rows of a data set with the features of their images, for tasks that label objects or pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import Dataset

from . import file as feature_file
from .dataset import make_file
from .encoding import Collator, Encoder, Encoding, encode_images


class EncodedRows(Dataset):
    """Rows of a data set, with the features of an image in its place.

    Items are rows without `image` and with `image_features`, as a task's collator takes them. Rows of the same images
    with other labels share the features (`with_rows`).

    Args:
        rows: A data set with a column `image`.
        features: The features of each image, images × ….
        class_names: The names of the classes that labels are of.

    Raises:
        ValueError: There are not as many features as rows.
    """

    def __init__(self, rows: datasets.Dataset, features: torch.Tensor, class_names: Sequence[str]) -> None:
        if len(rows) != len(features):
            raise ValueError(f"There are {len(rows)} rows and the features of {len(features)} images; give as many.")
        self.rows, self.features, self.class_names = rows.remove_columns("image"), features, list(class_names)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        features = self.features[index]
        return {**self.rows[index], "image_features": features.to(torch.promote_types(features.dtype, torch.float32))}

    def with_rows(self, rows: datasets.Dataset, class_names: Sequence[str]) -> EncodedRows:
        """Return other rows of the same images, in the same order, with these features."""
        return EncodedRows(rows, self.features, class_names)


def encode_rows(
    rows: datasets.Dataset,
    encode: Encoder,
    collator: Collator,
    on_disk: bool = False,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 16,
    num_workers: int = 0,
    cache_dir: str | Path | None = None,
) -> torch.Tensor:
    """Encode the images of rows once.

    Args:
        rows: A data set with a column `image`.
        encode: An [`~hf_sharp_prompt.ImageEncoder`].
        collator: Makes the pixel values of rows that have an image alone.
        on_disk: Whether features are kept in a file, mapped into memory, for later calls; else in memory.
        dtype: What features are kept as.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode images.
        cache_dir: The directory of the files, as for [`ImageFeatures.cached`].

    Returns:
        images × …, the same in all processes.

    Raises:
        ValueError: No images, or one that cannot be decoded; features that are not finite.
    """
    images = rows.select_columns("image")
    encoding = Encoding(images, encode, collator, dtype=dtype, batch_size=batch_size, num_workers=num_workers)
    if not on_disk:
        return torch.cat(list(encode_images(encoding)))[:, 0]
    unlabelled = torch.zeros(len(images), dtype=torch.long)
    return feature_file.read(make_file(encoding, unlabelled, [], cache_dir))[0][:, 0]
