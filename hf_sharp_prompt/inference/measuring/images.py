"""Accuracies and calibration of a classifier."""

from __future__ import annotations

import math
from typing import Any

import datasets
import numpy as np
import torch
from rich.table import Column, Table
from transformers import EvalPrediction

from ... import metrics
from ...data import SkippedImage, labels_of, load_image_dataset
from ..predictor import Predictor
from .measurement import Measurement, answers_of, in_percent


class Images(Measurement):
    """Images with one label each."""

    options = frozenset({"data_root", "image_column", "label_column", "on_bad_image", "class_names"})

    def load(self, dataset: str, skipped: list[SkippedImage], **loading: Any) -> datasets.DatasetDict:
        return load_image_dataset(dataset, **loading, needs_test_split=False, skipped=skipped)

    @property
    def class_names(self) -> list[str]:
        return list(self.rows.features["label"].names)

    def measure(
        self, predictor: Predictor[Any, Any], batch_size: int, num_workers: int | None = None
    ) -> dict[str, Any]:
        """Measure `accuracy`, `mean_per_class_accuracy`, `expected_calibration_error` and `per_class_accuracy`."""
        labels = np.array([predictor.class_names.index(name) for name in self.class_names])[labels_of(self.rows)]
        probabilities = torch.stack(answers_of(predictor, self.rows["image"], batch_size, num_workers))
        accuracies = metrics.load("per_class_accuracy").compute(
            predictions=probabilities.argmax(dim=1), references=labels, num_classes=len(predictor.class_names)
        )
        assert accuracies is not None  # It is None where several processes compute a metric together.
        log_probabilities = probabilities.log().numpy()  # These are logits, too.
        calibration = metrics.compute("expected_calibration_error", EvalPrediction(log_probabilities, labels))
        by_name = dict(zip(predictor.class_names, accuracies["per_class_accuracy"], strict=True))
        return {
            "images": len(labels),
            "accuracy": accuracies["accuracy"],
            "mean_per_class_accuracy": accuracies["mean_per_class_accuracy"],
            "expected_calibration_error": calibration["expected_calibration_error"],
            "per_class_accuracy": {
                name: None if math.isnan(by_name[name]) else by_name[name] for name in self.class_names
            },
        }

    def make_table(self, measured: dict[str, Any]) -> Table:
        table = Table("class", Column("accuracy", justify="right"))
        for name, accuracy in measured["per_class_accuracy"].items():
            table.add_row(name, in_percent(accuracy))
        table.add_section()
        table.add_row("all images", in_percent(measured["accuracy"]))
        table.add_row("mean of the classes", in_percent(measured["mean_per_class_accuracy"]))
        table.add_row("expected calibration error", in_percent(measured["expected_calibration_error"]))
        return table
