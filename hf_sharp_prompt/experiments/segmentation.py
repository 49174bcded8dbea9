"""Zero-shot segmentation: learn prompts from pixels of base classes, segment base, novel and all classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

import datasets
import numpy as np
import torch
from peft import PeftModel, get_peft_model
from PIL import Image
from transformers import CLIPModel, CLIPSegForImageSegmentation, EvalPrediction, PreTrainedModel
from transformers.models.metaclip_2.modeling_metaclip_2 import MetaClip2Model

from .. import demo, metrics
from ..data.decoding import decode
from ..data.segmentation import (
    BACKGROUND,
    IGNORED,
    SegmentationCollator,
    few_shot_masks,
    load_segmentation_dataset,
    segmented_classes,
    split_classes,
    value_names,
    with_classes,
)
from ..drawing import beside, colours_of, draw_masks
from ..metrics.segmentation import class_map, iou_of_counts
from ..plots import plot_segmentations
from ..tuners import CLIPPromptConfig
from .arguments import CLIPPromptArguments, code_to_load
from .averages import HALVES
from .dense import SETS, DenseArguments, DenseExperiment, DenseTrainer, make_dense_defaults
from .manuals.manual import option_field
from .manuals.segmentation import MANUAL
from .methods import ArgumentGroups
from .protocol import one_per_data_set, run_protocol
from .recipes import RECIPES
from .results import Result, Results, succeeded


MODELS: Mapping[str, type[PreTrainedModel]] = {
    "clipseg": CLIPSegForImageSegmentation,
    "clip": CLIPModel,
    "metaclip_2": MetaClip2Model,
}
"""The type of a checkpoint → the model."""

DEMO = {"learning_rate": 0.5, "num_train_epochs": 10, "per_device_train_batch_size": 8}
"""What recipes say on the demo is for its CLIP. The gradients of a mean over pixels are smaller: of the learning rates
0.1 and 0.5 the second was better for CoOp by HM on the validation split, seed 1. Epochs and batch size were chosen for
time."""

PICTURED = 4
"""How many images are drawn."""


@dataclass
class SegmentationArguments(DenseArguments):
    """The arguments of segmentation."""

    model: str = option_field(MANUAL["model"], str(demo.CLIPSEG_PATH))
    shots: str = option_field(MANUAL["shots"])
    mask_column: str | None = option_field(MANUAL["mask_column"])
    ignored_value: int = option_field(MANUAL["ignored_value"])
    image_size: int | None = option_field(MANUAL["image_size"])
    pixel_loss: str | None = option_field(MANUAL["pixel_loss"])


def argument_groups() -> ArgumentGroups[SegmentationArguments, CLIPPromptArguments]:
    """The arguments of the command line."""
    defaults = {**make_dense_defaults(), "output_dir": MANUAL["output_dir"].default}
    return ArgumentGroups(SegmentationArguments, CLIPPromptArguments, defaults, RECIPES, DEMO)


class SegmentationTrainer(DenseTrainer):
    """Keeps counts of the pixels that it measures, which add up exactly, and not logits and masks of all images."""

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Return the loss, the counts of each image's pixels, and those of the truth alone as labels."""
        loss, logits, _ = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None:
            return loss, None, None
        prompted: Any = self.model  # PEFT forwards what a tuner has, unseen by type checkers.
        background = prompted.comparison.knows_background
        counts = metrics.count_pixels_of_logits(logits, inputs["labels"], inputs["label_sizes"], background)
        return loss, counts, counts[:, 2]


class Segmentation(DenseExperiment):
    """Learns from pixels of base classes, and segments base, novel and all classes.

    Results are the mean intersections over union `base`, `novel`, `hm` and `all`, the pixel accuracies with the suffix
    `_pixels`, and those of each class and of background in `details`.
    """

    protocol = "segmentation"
    task = "image-segmentation"
    columns = {
        "base mIoU": "base",
        "novel mIoU": "novel",
        "HM mIoU": "hm",
        "all mIoU": "all",
        "base pixels": "base_pixels",
        "novel pixels": "novel_pixels",
        "HM pixels": "hm_pixels",
        "all pixels": "all_pixels",
    }
    metrics = {"mean_iou": "", "pixel_accuracy": "_pixels"}
    figure = "mean_iou.png"
    trainer_class = SegmentationTrainer
    methods_picture = "predictions.png"

    models = MODELS
    checkpoints = "CIDAS/clipseg-rd64-refined or openai/clip-vit-base-patch16"

    args: SegmentationArguments

    @property
    def knows_background(self) -> bool:
        """Whether the model can answer that a pixel shows none of the classes."""
        return self.model_class is CLIPSegForImageSegmentation

    def code_of_model(self) -> list[str]:
        on_demo = ("CLIPSEG_PATH", demo.CLIPSEG_PATH) if self.knows_background else ("CLIP_PATH", demo.CLIP_PATH)
        return code_to_load(self.model_class.__name__, self.args.model, *on_demo)

    def load_rows(self) -> datasets.DatasetDict:
        splits = load_segmentation_dataset(
            self.dataset,
            mask_column=self.args.mask_column,
            class_names=self.args.class_names,
            ignored_value=self.args.ignored_value,
        )
        if not self.args.smoke:
            return splits
        few = {name: split.select(range(min(8, len(split)))) for name, split in splits.items()}
        few["train"] = few_shot_masks(splits["train"], segmented_classes(splits), 1, seed=0)
        return datasets.DatasetDict(few)

    @cached_property
    def names(self) -> Mapping[str, Sequence[str]]:
        base, novel = split_classes(self.rows, *(self.args.names_of(half) for half in HALVES))
        return dict(zip(SETS, (base, novel, [*base, *novel]), strict=True))

    def describe(self) -> str:
        background = "ignored" if self.collates_background == IGNORED else "negative for every class"
        return (
            f"{self.name}: {len(self.names['base'])} base and {len(self.names['novel'])} novel classes, learned from "
            f"{self.args.shots} images of each base class. Background is {background}."
        )

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "image_size": self.args.image_size, "pixel_loss": self.args.pixel_loss}

    def rows_to_measure(self, name: str) -> datasets.Dataset:
        return self.rows[self.args.eval_split]

    def draw_rows(self, seed: int) -> datasets.Dataset:
        shots, base = self.args.number_of_shots, self.names["base"]
        rows = with_classes(self.rows["train"], base)
        return rows if shots is None else few_shot_masks(rows, base, shots, seed)

    @property
    def collates_background(self) -> int:
        """The label of background."""
        return BACKGROUND if self.knows_background else IGNORED

    def make_collator(self, name: str, measures: bool) -> SegmentationCollator:
        side = self.args.image_size
        return SegmentationCollator(
            self.processor,
            value_names(self.rows),
            self.names[name],
            self.collates_background,
            own_sizes=measures,
            size=None if side is None else (side, side),
            ignored_value=self.args.ignored_value,
        )

    def make_config(self, **prompt: Any) -> CLIPPromptConfig:
        return super().make_config(pixel_loss=self.args.pixel_loss, **prompt)

    def picture(self, model: Any, rows: Sequence[dict[str, Any]]) -> Image.Image:
        """Draw the masks, without what does not count, and the predicted classes."""
        names, colours = self.names["all"], colours_of(len(self.names["all"]))
        truths: list[Image.Image] = []
        answers: list[Image.Image] = []
        for row in rows:
            image, batch = decode(row["image"]), self.make_collator("all", measures=True)([row])
            logits = model(pixel_values=batch["pixel_values"].to(model.device)).logits[0].cpu()
            predicted = class_map(logits, (image.height, image.width), self.knows_background)
            for pictures, labels in ((truths, batch["labels"][0]), (answers, predicted)):
                pictures.append(draw_masks(image, labels.numpy(), names, colours))
        return beside({"truth": truths, "predicted": answers})

    def judge(self, name: str, prediction: EvalPrediction) -> Result:
        scores = metrics.segmentation_scores(prediction)
        background, (by_class, *_) = scores.pop("background_iou"), iou_of_counts(prediction)
        named = zip([*self.names[name], "background"], [*by_class, background], strict=True)
        return {**scores, "per_class_iou": {each: None if isnan(iou) else float(iou) for each, iou in named}}

    def draw(self, results: Results) -> None:
        """Draw a bar for each method, and what the methods' first seeds answer for a few images."""
        super().draw(results)
        split = self.rows[self.args.eval_split]
        rows = list(split.select(range(min(PICTURED, len(split)))))
        batches = [self.make_collator("all", measures=True)([row]) for row in rows]
        answers = {"truth": [batch["labels"][0].numpy() for batch in batches]}
        for method, runs in results.items():
            if finished := succeeded(runs):
                answers[method] = self.answer(method, finished[0].get("seed"), batches)
        images = [np.asarray(decode(row["image"])) for row in rows]
        plot_segmentations(images, answers, self.names["all"], self.directory / self.methods_picture, self.name)

    def answer(self, method: str, seed: int | None, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[np.ndarray]:
        """Return the class of each pixel among all names, as a saved adapter answers; without a seed, as the model.

        Args:
            method: The method's name.
            seed: The run's seed; None for the model without prompts.
            batches: Batches of one image, with its mask's own size.
        """
        if seed is None:
            model: Any = get_peft_model(self.load_model(), self.make_config())
            call = {"adapter": "__base__", "template": self.args.template}
        else:
            model = PeftModel.from_pretrained(self.load_model(), self.directory / method / f"seed{seed}")
            call = {"template": model.active_config.class_template}
        model.eval()
        answers = []
        for batch in batches:
            with torch.no_grad():
                logits = model.classify(
                    batch["pixel_values"], names=self.names["all"], tokenizer=self.processor, **call
                ).logits[0]
            answers.append(class_map(logits, batch["label_sizes"][0].tolist(), self.knows_background).numpy())
        return answers


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return run_protocol(argument_groups(), one_per_data_set(Segmentation), MANUAL, argv)
