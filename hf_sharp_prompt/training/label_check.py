"""Checks that labels are those of the model's classes, name the same ones, and are what a run's parts read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import ClassLabel
from peft import PeftModel
from torch import nn

from ..objectives import Objective
from ..objectives.labels import IGNORED, NO_OBJECT
from ..tuners.prompted_classifier import find_prompted_classifier
from .arguments import SharpPromptTrainingArguments


LABEL_COLUMNS = ("label", "labels")


class LabelCheckingCollator:
    """Makes the batches that a collator makes, and checks their labels while these are on the CPU.

    Args:
        collator: Makes the batches.
        num_classes: How many classes the model has, a tensor in memory that is shared with workers, so that those that
            live on see it change; 0 where it is not known.

    Raises:
        ValueError: When called with a label outside the classes; the label, their number and the remedy are named.
    """

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]], num_classes: torch.Tensor) -> None:
        self.collator, self.num_classes = collator, num_classes

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        for example in examples:
            example = example[1] if isinstance(example, tuple) else example  # of a `Seeded` data set, with its index
            if isinstance(example, dict) and any(example.get(name, 0) is None for name in LABEL_COLUMNS):
                raise ValueError(
                    "A sample has no label (None). Drop such samples with dataset.filter(), or remove the column of "
                    "labels to predict without them."
                )
        batch = self.collator(examples)
        if (count := int(self.num_classes)) and torch.is_tensor(labels := batch.get("labels")):
            _check(labels, count)
        return batch


def class_names_of(model: nn.Module) -> Sequence[str] | None:
    """Return the names of the classes that a prompted model classifies into, if it has any."""
    if not isinstance(model, PeftModel):
        return None
    return getattr(model.peft_config.get(model.active_adapter), "class_names", None)


def num_classes_of(model: nn.Module) -> int:
    """Return how many classes a model has; 0 where it is not known."""
    if names := class_names_of(model):
        return len(names)
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    config: Any = getattr(base, "config", None)
    return config.num_labels if type(base).__name__.endswith("ForImageClassification") else 0


def check_class_order(dataset: Any, names: Sequence[str] | None) -> None:
    """Check that the classes of a data set, where it names them, are those of the model, label by label.

    Names that differ in case and underscores alone are the same. Names that the model does not have at all may be
    others for the same classes, and are not compared.

    Args:
        dataset: A `datasets.Dataset` with a `ClassLabel`, or a data set with `class_names`.
        names: The model's class names, if it has any.

    Raises:
        ValueError: A class of the data has another label in the model.
    """
    in_data = _class_names_of_dataset(dataset)
    if not in_data or not names:
        return
    labels = {_spelled_alike(name): label for label, name in enumerate(names)}
    for label, name in enumerate(in_data):
        in_model = labels.get(_spelled_alike(name), label)
        if in_model != label:
            instead = f"that is {names[label]!r}" if label < len(names) else f"it has {len(names)} classes"
            raise ValueError(
                f"Label {label} of the data is {name!r}, but of the model {instead}, and {name!r} is its label "
                f"{in_model}. Give the model the data's class names in their order, or map the labels: "
                "dataset.align_labels_with_mapping({name: label for label, name in enumerate(class_names)}, 'label')."
            )


def check_parts_fit_labels(
    model: nn.Module, args: SharpPromptTrainingArguments, objectives: Sequence[Objective]
) -> None:
    """Check that nothing needs one label for each image where objects or pixels have labels.

    Raises:
        ValueError: A rule, an objective or an argument needs it; all of them are named.
    """
    classifier = find_prompted_classifier(model)
    if classifier is None or classifier.labels_images:
        return
    parts = {
        f"sharpness={args.sharpness!r}": args.sharpness_rule.tells_classes_apart,
        **{f"the objective {each.name!r}": each.reads_image_logits for each in objectives},
        f"loss={args.loss!r}": args.loss,
        "reweighting_beta": args.reweighting_beta,
        "label_smoothing_factor": args.label_smoothing_factor,
    }
    if needing := [name for name, needs in parts.items() if needs]:
        raise ValueError(
            f"This model labels objects or pixels, and {' and '.join(needing)} needs one label for each image; leave "
            "it out. All other sharpness rules, and objectives that compare features of the classes, can be used."
        )


def _check(labels: torch.Tensor, count: int) -> None:
    if labels.is_floating_point():
        if labels.dim() != 2 or labels.shape[1] != count:
            raise ValueError(
                f"Labels that are no whole numbers must be probabilities, samples × {count} classes, but they have "
                f"the shape {tuple(labels.shape)}."
            )
        return
    outside = labels[((labels < 0) | (labels >= count)) & (labels != IGNORED)]
    if labels.dim() > 1:  # of objects or pixels
        outside = outside[outside != NO_OBJECT]
    if len(outside):
        raise ValueError(
            f"Label {int(outside[0])} is not among the {count} classes of the model, which are 0 to {count - 1}. Give "
            f"the model all classes of the data, drop these samples with dataset.filter(), or label them {IGNORED} to "
            "ignore them; to predict without labels, remove their column."
        )


def _class_names_of_dataset(dataset: Any) -> Sequence[str]:
    features = getattr(dataset, "features", None)
    if not isinstance(features, dict):
        return getattr(dataset, "class_names", None) or ()
    found = next((features[name] for name in LABEL_COLUMNS if name in features), None)
    return found.names if isinstance(found, ClassLabel) else ()


def _spelled_alike(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())
