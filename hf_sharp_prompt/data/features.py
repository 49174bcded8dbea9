from __future__ import annotations

from collections.abc import Callable, Sequence

import datasets
import torch
from torch.utils.data import DataLoader, Dataset

from .collator import ImageCollator


class ImageFeatures(Dataset):
    """Images as a frozen image tower sees them: computed once, used in every step, run and evaluation.

    Items are `{"image_features": (width,), "labels": ()}`, as the model takes them instead of pixels. With several
    augmented views per image, every access draws one.

    Args:
        features: images × views × width.
        labels: images.
        class_names: The names of the classes.
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, class_names: Sequence[str]) -> None:
        self.features = features
        self.labels = labels
        self.class_names = list(class_names)

    @classmethod
    @torch.no_grad()
    def compute(
        cls,
        dataset: datasets.Dataset,
        encode: Callable[[torch.Tensor], torch.Tensor],
        collator: ImageCollator,
        views: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> ImageFeatures:
        """Encode a data set.

        Args:
            dataset: With an `image` column and a `label` column, a `ClassLabel`.
            encode: Pixel values (batch × channels × height × width) to features (batch × width).
            collator: Makes the pixel values, augmenting or not.
            views: How often each image is encoded; more than one makes sense with augmentation.
            batch_size: Images encoded at a time.
            num_workers: Processes that decode and augment.
        """
        loader = DataLoader(dataset, batch_size, collate_fn=collator, num_workers=num_workers)
        passes = [torch.cat([encode(batch["pixel_values"]) for batch in loader]) for _ in range(views)]
        return cls(torch.stack(passes, dim=1), torch.tensor(dataset["label"]), dataset.features["label"].names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        view = int(torch.randint(self.features.shape[1], ()))
        return {"image_features": self.features[index, view], "labels": self.labels[index]}
