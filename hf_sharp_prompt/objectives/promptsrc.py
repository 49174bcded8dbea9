from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ..hyperparameters import hyperparameter
from ..sharpness.vectors import flatten
from .batch import Batch
from .distances import divergence
from .objective import Objective
from .parameters import split_by_name, trained_parameters
from .templates import Templates, read_templates
from .zero_shot import classifier, encode_without_prompts, features_of, image_features_without_prompts


@dataclass
class PromptSRC(Objective, name="promptsrc"):
    """Self-regulating prompts: features and logits stay close to the base model's; the prompts are averaged over time.

    `L + λ_t·mean|t - t̂| + λ_v·mean|v - v̂| + λ_z·KL(softmax(ẑ) ‖ softmax(z)) / C`. t, v and z are the features of the
    C classes, the features of the images, and the logits; t̂, v̂ and ẑ are the same without prompts. t̂ is averaged
    over hand-written texts, and v̂ is of the same augmented images. At the run's end the prompts become their mean over
    the epochs, in which epoch e, counted from 1, has the weight of the density of N(average_mean, average_std²) at e.

    The last evaluation and the last checkpoint use the averaged prompts; `load_best_model_at_end` may still choose
    those of another epoch. A run that is stopped early takes the mean over the epochs it had.

    Args:
        text_weight: λ_t, the weight of the distance of class features (paper: 25).
        image_weight: λ_v, the weight of the distance of image features (paper: 10).
        logits_weight: λ_z, the weight of the divergence (paper: 1).
        average_mean: The epoch that counts most in the mean (paper: 15 of 20 for base-to-novel, 6 of 20 for
            cross-dataset, 30 or 45 of 50 for few-shot).
        average_std: The standard deviation of the epochs' weights, in epochs (paper: 1; 10; 30 or 5).
        templates: The hand-written texts, as [`NFL`] takes them (the released code: `"imagenet_60"`).

    Cost:
        One more forward pass of the image tower per step, where vision tokens train.

    When:
        Prompts are learned in both towers, which overfit easily.

    Reference:
        Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023,
        https://arxiv.org/abs/2307.06948
    """

    needs_frozen_images = True

    text_weight: float = hyperparameter(25.0, low=0, help="Weight of the distance of text features.")
    image_weight: float = hyperparameter(10.0, low=0, help="Weight of the distance of image features.")
    logits_weight: float = hyperparameter(1.0, low=0, help="Weight of the divergence of logits.")
    average_mean: float = hyperparameter(15.0, help="Epoch that counts most in the average of the prompts.")
    average_std: float = hyperparameter(1.0, above=0, help="Standard deviation of the epochs' weights, in epochs.")
    templates: Templates = "imagenet_7"

    def __post_init__(self) -> None:
        super().__post_init__()
        read_templates(self.templates, self.name)

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        names = classifier(model, self.name).active_config.class_names
        templates = read_templates(self.templates, self.name)
        features = encode_without_prompts(model, self.name, names, templates, tokenizer)
        self._targets = normalize(
            features.mean(dim=0), dim=-1
        )  # The mean of features that are not normalised, as in the released code.

    def term(self, batch: Batch) -> torch.Tensor:
        class_features, image_features = features_of(batch, "class_features"), features_of(batch, "image_features")
        frozen_images = image_features_without_prompts(batch, self.name).to(image_features)
        frozen_classes = self._targets.to(class_features)
        with torch.no_grad():
            zero_shot = classifier(batch.model, self.name).compare(frozen_images, frozen_classes)
        of_texts = (class_features - frozen_classes).abs().mean(dim=(-2, -1))
        of_images = (image_features - frozen_images).abs().mean(dim=-1)
        of_logits = divergence(zero_shot, batch.logits, 1.0) / batch.logits.shape[-1]
        return batch.mean(self.text_weight * of_texts + self.image_weight * of_images + self.logits_weight * of_logits)

    def end_epoch(self, model: nn.Module) -> None:
        # The total weight is kept as a logarithm, since weights far from average_mean vanish in float64.
        now = flatten(trained_parameters(model).values())
        epochs = self.state["epochs"] + 1 if self.state else torch.ones((), dtype=torch.float64)
        log_weight = -0.5 * ((epochs - self.average_mean) / self.average_std) ** 2
        log_total = torch.logaddexp(self.state["log_total"], log_weight) if self.state else log_weight
        mean = self.state["mean"].to(now) if self.state else now
        mean = mean + float((log_weight - log_total).exp()) * (now - mean)
        self.state = {"mean": mean, "epochs": epochs, "log_total": log_total}

    @torch.no_grad()
    def end_run(self, model: nn.Module) -> None:
        if self.state:
            # `vector_to_parameters` would turn them into views of one tensor, with its dtype.
            parameters = trained_parameters(model)
            for name, mean in split_by_name(self.state["mean"], parameters).items():
                parameters[name].copy_(mean)
