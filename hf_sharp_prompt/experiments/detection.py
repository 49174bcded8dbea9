"""Open-vocabulary detection: learn prompts from objects of base categories, find those of base, novel and all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from transformers import (
    EvalPrediction,
    Owlv2ForObjectDetection,
    OwlViTForObjectDetection,
    PreTrainedModel,
)

from .. import demo, metrics
from ..data.decoding import decode
from ..data.detection import (
    BOX_FORMATS,
    DetectionCollator,
    base_and_novel_categories,
    category_names,
    few_shot_objects,
    load_detection_dataset,
    only_categories,
)
from ..data.detection.categories import without_crowds
from ..drawing import Box, beside, colours_of, draw_boxes
from ..metrics.detection import suppress_overlaps
from .arguments import CLIPPromptArguments, code_to_load
from .dense import SETS, DenseArguments, DenseExperiment, make_dense_defaults
from .manuals.detection import MANUAL
from .manuals.manual import option_field
from .methods import ArgumentGroups
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES
from .results import Result
from .smoke import CLASSES


MODELS: Mapping[str, type[PreTrainedModel]] = {"owlvit": OwlViTForObjectDetection, "owlv2": Owlv2ForObjectDetection}
"""The type of a checkpoint → the detector."""

DEMO = {"learning_rate": 1.0}
"""What recipes say on the demo is for its CLIP. The focal loss of its OWL-ViT has smaller gradients: of the learning
rates 0.1, 0.3, 1 and 3 this was the best for CoOp by HM on the validation split, seed 1."""

SHOWN_OVERLAP = 0.5
"""A picture shows the best one alone where boxes of a category overlap by more."""

MOST_FOUND = 100
"""The detections of an image that count, the best ones, as in COCO."""


@dataclass
class DetectionArguments(DenseArguments):
    """The arguments of detection."""

    model: str = option_field(MANUAL["model"], str(demo.OWLVIT_PATH))
    box_format: str = option_field(MANUAL["box_format"])


def argument_groups() -> ArgumentGroups[DetectionArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_dense_defaults(), "output_dir": MANUAL["output_dir"].default}
    return ArgumentGroups(DetectionArguments, CLIPPromptArguments, defaults, RECIPES, DEMO)


class Detection(DenseExperiment):
    """Learns from objects of base categories, and finds those of base, novel and all categories.

    Results are the mean average precisions `base`, `novel`, `hm` and `all`, and those at an overlap of 0.5 and of 0.75
    with the suffixes `50` and `75`.
    """

    protocol = "detection"
    task = "object-detection"
    columns = {
        "base": "base",
        "novel": "novel",
        "HM": "hm",
        "all": "all",
        "base 50": "base50",
        "novel 50": "novel50",
        "HM 50": "hm50",
        "all 50": "all50",
    }
    metrics = {"map": "", "map50": "50", "map75": "75"}
    label_names = ("labels", "boxes", "crowds")
    figure = "precision.png"
    extras = {**DenseExperiment.extras, "dense": ["scipy", "pycocotools"]}

    models = MODELS
    checkpoints = "google/owlvit-base-patch32"

    args: DetectionArguments

    def code_of_model(self) -> list[str]:
        return code_to_load(self.model_class.__name__, self.args.model, "OWLVIT_PATH", demo.OWLVIT_PATH)

    def load_rows(self) -> datasets.DatasetDict:
        splits = load_detection_dataset(self.dataset, self.args.box_format, self.args.class_names_to_read)
        if not self.args.smoke:
            return splits
        first = range(min(CLASSES, len(category_names(splits["train"]))))
        kept = {name: only_categories(split, first, keep_empty=False) for name, split in splits.items()}
        return datasets.DatasetDict({name: split.select(range(min(8, len(split)))) for name, split in kept.items()})

    @cached_property
    def halves(self) -> dict[str, list[int]]:
        """The labels of the categories of each of `SETS`."""
        names = category_names(self.rows["train"])
        base, novel = base_and_novel_categories(names, self.args.names_of("base"), self.args.names_of("novel"))
        return dict(zip(SETS, (base, novel, [*base, *novel]), strict=True))

    @cached_property
    def names(self) -> Mapping[str, Sequence[str]]:
        names = category_names(self.rows["train"])
        return {half: [names[label] for label in labels] for half, labels in self.halves.items()}

    def describe(self) -> str:
        return (
            f"{self.name}: {len(self.halves['base'])} base and {len(self.halves['novel'])} novel categories, learned "
            f"from {self.args.shots} images of each base category. The boxes are those of the frozen head: only their "
            "classification is learned, except by prompts in the image tower."
        )

    def rows_to_measure(self, name: str) -> datasets.Dataset:
        return only_categories(self.rows[self.args.eval_split], self.halves[name])

    def draw_rows(self, seed: int) -> datasets.Dataset:
        base = without_crowds(only_categories(self.rows["train"], self.halves["base"]))
        if not len(base):
            raise ValueError(f"No training image of {self.name} has an object of a base category; add some.")
        shots = self.args.number_of_shots
        return base if shots is None else few_shot_objects(base, shots, seed)

    def make_collator(self, name: str, measures: bool) -> DetectionCollator:
        return DetectionCollator(self.processor)

    def compress(self, logits: Any, labels: Any) -> tuple[torch.Tensor, ...]:
        return best_detections(*logits)

    def picture(self, model: Any, rows: Sequence[dict[str, Any]]) -> Image.Image:
        """Draw the objects, and as many of the best detections that do not overlap."""
        truths, answers = [], []
        for row in rows:
            image, objects = decode(row["image"]), row["objects"]
            corners = [(left, top, left + width, top + height) for left, top, width, height in objects["bbox"]]
            truths.append(self._draw(image, corners, objects["category"]))
            outputs = model(pixel_values=self.make_collator("all", True)([row])["pixel_values"].to(model.device))
            found = self.processor.image_processor.post_process_object_detection(
                outputs, threshold=0.0, target_sizes=[(image.height, image.width)]
            )[0]
            order = found["scores"].argsort(descending=True, stable=True)
            boxes, labels, scores = (found[name][order].cpu() for name in ("boxes", "labels", "scores"))
            best = suppress_overlaps(boxes, labels, SHOWN_OVERLAP)[: max(1, len(objects["category"]))].flip(0)
            answers.append(
                self._draw(
                    image, boxes[best].tolist(), labels[best].tolist(), [f" {each:.0%}" for each in scores[best]]
                )
            )
        return beside({"truth": truths, "predicted": answers})

    def _draw(
        self, image: Image.Image, boxes: Sequence[Box], labels: Sequence[int], scores: Sequence[str] | None = None
    ) -> Image.Image:
        names, colours = self.names["all"], colours_of(len(self.names["all"]))
        texts = [names[label] + score for label, score in zip(labels, scores or [""] * len(labels), strict=True)]
        return draw_boxes(image, list(zip(boxes, texts, [colours[label] for label in labels], strict=True)))

    def judge(self, name: str, prediction: EvalPrediction) -> Result:
        found, sought = detections_and_objects(prediction)
        results = metrics.load("mean_average_precision")._compute(found, sought, len(self.names[name]))
        by_name = dict(zip(self.names[name], results.pop("per_class_ap"), strict=True))
        return {**results, "per_class_ap": by_name}


def best_detections(logits: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keep the best detections of each image.

    Args:
        logits: images × patches × categories.
        boxes: images × patches × 4.

    Returns:
        Their scores and categories, images × detections, and boxes, images × detections × 4. A patch may have several.
    """
    scores, categories = logits.sigmoid().flatten(1), logits.shape[-1]
    best, places = scores.topk(min(MOST_FOUND, scores.shape[1]), dim=1)
    patches = places.div(categories, rounding_mode="floor")
    return best, places % categories, boxes.gather(1, patches[..., None].expand(-1, -1, 4))


def detections_and_objects(prediction: EvalPrediction) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what was found and what there is, as the metric takes it, of each image."""
    found, sought = ((np.asarray(each) for each in of) for of in (prediction.predictions, prediction.label_ids))
    return (
        [detections_of_image(*of_image) for of_image in zip(*found, strict=True)],
        [objects_of_image(*of_image) for of_image in zip(*sought, strict=True)],
    )


def detections_of_image(scores: np.ndarray, categories: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
    """Return what was found in an image, as the metric takes it; arguments as `best_detections` returns them."""
    return {"boxes": _from_centres(boxes), "scores": scores, "labels": categories}


def objects_of_image(labels: np.ndarray, boxes: np.ndarray, crowds: np.ndarray) -> dict[str, Any]:
    """Return the objects of an image, as the metric takes them; arguments as `DetectionCollator` makes them."""
    kept = labels >= 0
    return {"boxes": _from_centres(boxes[kept]), "labels": labels[kept], "crowds": crowds[kept]}


def _from_centres(boxes: np.ndarray) -> np.ndarray:
    return BOX_FORMATS["cxcywh"](boxes.astype(np.float64))


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), one_per_data_set(Detection), MANUAL, argv)
