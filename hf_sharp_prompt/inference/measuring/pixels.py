"""The mean intersection over union of segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from rich.table import Column, Table

from ... import metrics
from ...data import SkippedImage
from ...data.segmentation import (
    BACKGROUND,
    IGNORED,
    IGNORED_VALUE,
    LABEL_SIZES,
    SegmentationCollator,
    load_segmentation_dataset,
    segmented_classes,
    value_names,
)
from ...metrics.segmentation import iou_of_counts
from ..predictor import Predictor
from ..segmenter import Segmenter
from .measurement import AsksForRows, Measurement, answers_of, in_percent


class Pixels(Measurement):
    """Images with masks, segmented into all classes at their own sizes, as the protocol of segmentation does."""

    options = frozenset({"class_names", "image_column", "mask_column", "ignored_value"})

    def load(self, dataset: str, skipped: list[SkippedImage], **loading: Any) -> datasets.DatasetDict:
        self.ignored_value: int = loading.get("ignored_value", IGNORED_VALUE)
        return load_segmentation_dataset(dataset, **loading, needs_test_split=False)

    @property
    def class_names(self) -> list[str]:
        return segmented_classes(self.rows)

    def measure(
        self, predictor: Predictor[Any, Any], batch_size: int, num_workers: int | None = None
    ) -> dict[str, Any]:
        """Measure `mean_iou`, `pixel_accuracy`, `background_iou` and `per_class_iou`."""
        assert isinstance(predictor, Segmenter)
        names, own = predictor.class_names, self.class_names
        counted = CountedPixels(predictor, self.rows, [names.index(name) for name in own], self.ignored_value)
        counts = np.stack(answers_of(counted, self.rows, batch_size, num_workers))
        by_name = dict(zip(names, map(_or_none, iou_of_counts(counts)[0].tolist()), strict=True))
        results = {name: _or_none(value) for name, value in metrics.segmentation_scores(counts).items()}
        return {"images": len(counts), **results, "per_class_iou": {name: by_name[name] for name in own}}

    def make_table(self, measured: dict[str, Any]) -> Table:
        table = Table("class", Column("IoU", justify="right"))
        for name, iou in measured["per_class_iou"].items():
            table.add_row(name, in_percent(iou))
        table.add_section()
        table.add_row("background", in_percent(measured["background_iou"]))
        table.add_row("mIoU", in_percent(measured["mean_iou"]))
        table.add_row("pixel accuracy", in_percent(measured["pixel_accuracy"]))
        return table


class CountedPixels(AsksForRows):
    """Answers rows with counts of pixels, as `count_pixels_of_logits` counts them.

    Args:
        predictor: The model with its adapter.
        rows: The data set.
        labels: The model's label for each of the data set's classes.
        ignored_value: The pixel value that does not count.
    """

    def __init__(
        self, predictor: Segmenter, rows: datasets.Dataset, labels: Sequence[int], ignored_value: int
    ) -> None:
        collator = SegmentationCollator(
            predictor.image_processor,
            value_names(rows),
            background=BACKGROUND if predictor.knows_background else IGNORED,
            own_sizes=True,
            size=predictor.collator.size,
            ignored_value=ignored_value,
        )
        super().__init__(predictor, collator)
        self.knows_background, self.labels = predictor.knows_background, torch.tensor(labels)

    @torch.no_grad()
    def answer(self, batch: Sequence[dict[str, torch.Tensor]]) -> list[np.ndarray]:
        pixel_values = torch.cat([each["pixel_values"] for each in batch]).to(PartialState().device)
        logits = self.predictor.model(pixel_values=pixel_values).logits.cpu()
        answers = []
        for of_image, row in zip(logits, batch, strict=True):
            labels = row["labels"].clone()
            labels[labels >= 0] = self.labels[labels[labels >= 0]]
            counts = metrics.count_pixels_of_logits(of_image[None], labels, row[LABEL_SIZES], self.knows_background)
            answers.append(counts[0].numpy())
        return answers


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
