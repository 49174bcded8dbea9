"""Features that are the same in every gradient evaluation, since nothing trains that computes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..tuners.prompted_classifier import find_prompted_classifier
from .step import MicroBatch


def encode_frozen_images(model: nn.Module, inputs: Mapping[str, Any], needed_by_objectives: bool) -> MicroBatch:
    """Encode a micro-batch's images once, where all gradient evaluations of the step see the same features.

    Args:
        model: The model, without the wrappers of a training loop.
        inputs: The model's inputs by name.
        needed_by_objectives: True if an objective compares with the images' features without prompts.

    Returns:
        The micro-batch. Where no token trains that sees images, features take the place of the pixels; where one
        does, they stand beside the pixels if an objective needs them.
    """
    classifier = find_prompted_classifier(model)
    if classifier is None or "pixel_values" not in inputs or "input_ids" in inputs:
        return MicroBatch(dict(inputs))
    frozen = classifier.sees_images_frozen
    if not frozen and not needed_by_objectives:
        return MicroBatch(dict(inputs))
    features: torch.Tensor = classifier.encode_images(**inputs)
    if not frozen:
        return MicroBatch(dict(inputs), features)
    others = {name: value for name, value in inputs.items() if name not in classifier.image_input_names}
    return MicroBatch({**others, "image_features": features})


def class_features_kept(model: nn.Module, while_training: bool) -> AbstractContextManager[None]:
    """Compute the features of the classes once within the block, where the model has such.

    Args:
        model: The model, without the wrappers of a training loop.
        while_training: True if the block trains. Then they are kept only where no token trains that reads texts.
    """
    classifier = find_prompted_classifier(model)
    if classifier is None or (while_training and not classifier.reads_texts_frozen):
        return nullcontext()
    return classifier.keeping_class_features()
