"""The mean average precision of a detector."""

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
from ...data.detection import DetectionCollator, category_names, load_detection_dataset
from ...experiments.detection import best_detections, detections_of_image, objects_of_image
from ...extras import check_installed
from ..predictor import Predictor
from .measurement import AsksForRows, Measurement, answers_of, in_percent


class Objects(Measurement):
    """Images with objects, found among the names of all categories, as the protocol of detection measures them."""

    options = frozenset({"class_names", "box_format"})

    def load(self, dataset: str, skipped: list[SkippedImage], **loading: Any) -> datasets.DatasetDict:
        check_installed("The mean average precision", {"dense": ["pycocotools"]})
        return load_detection_dataset(dataset, **loading, needs_test_split=False)

    @property
    def class_names(self) -> list[str]:
        return category_names(self.rows)

    def measure(
        self, predictor: Predictor[Any, Any], batch_size: int, num_workers: int | None = None
    ) -> dict[str, Any]:
        """Measure `map`, `map50`, `map75` and `per_class_ap`, over the 100 best detections of each image."""
        names = predictor.class_names
        labels = [names.index(name) for name in self.class_names]
        answers = answers_of(BestDetections(predictor, labels), self.rows, batch_size, num_workers)
        found, sought = ([each[place] for each in answers] for place in (0, 1))
        results = metrics.load("mean_average_precision")._compute(found, sought, len(names))
        results = {name: _or_none(value) for name, value in results.items()}
        by_name = dict(zip(names, results.pop("per_class_ap"), strict=True))
        by_name = {name: by_name[name] for name in self.class_names}
        return {
            "images": len(answers),
            "objects": sum(len(each["labels"]) for each in sought),
            **results,
            "per_class_ap": by_name,
        }

    def make_table(self, measured: dict[str, Any]) -> Table:
        table = Table("category", Column("AP", justify="right"))
        for name, precision in measured["per_class_ap"].items():
            table.add_row(name, in_percent(precision))
        table.add_section()
        for title, name in (("mAP", "map"), ("mAP50", "map50"), ("mAP75", "map75")):
            table.add_row(title, in_percent(measured[name]))
        return table


class BestDetections(AsksForRows):
    """Answers rows with the best detections of the image and its objects, as the metric takes them.

    Args:
        predictor: The model with its adapter.
        labels: The model's label for each of the data set's.
    """

    def __init__(self, predictor: Predictor[Any, Any], labels: Sequence[int]) -> None:
        super().__init__(predictor, DetectionCollator(predictor.image_processor))
        self.labels = np.array(labels)

    @torch.no_grad()
    def answer(self, batch: Sequence[dict[str, torch.Tensor]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        pixel_values = torch.cat([each["pixel_values"] for each in batch]).to(PartialState().device)
        outputs = self.predictor.model(pixel_values=pixel_values)
        found = [each.cpu().numpy() for each in best_detections(outputs.logits, outputs.pred_boxes)]
        answers = []
        for place, row in enumerate(batch):
            objects = objects_of_image(*(row[name][0].numpy() for name in ("labels", "boxes", "crowds")))
            objects["labels"] = self.labels[objects["labels"]]
            answers.append((detections_of_image(*(each[place] for each in found)), objects))
        return answers


def _or_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_or_none(each) for each in value]
    return None if isinstance(value, float | np.floating) and math.isnan(value) else value
