"""Stay close to what the base model says without prompts: regularisation by its zero-shot knowledge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ..hyperparameters import hyperparameter
from .batch import Batch
from .frozen import (
    check_that_texts_train,
    classifier,
    encode_without_prompts,
    features_of,
    image_features_without_prompts,
)
from .objective import ConstrainingObjective, Objective
from .templates import Templates, check_template, read_templates
from .trajectory import divergence, flatten, trainable


@dataclass
class KgCoOp(Objective, name="kgcoop"):
    """Knowledge-guided context optimisation: classes keep the features of their hand-written texts.

    `L + weight·mean_c(1 - cos(t_c, t̂_c))`, `t_c` the feature of class c behind the learned context, `t̂_c` that of its
    hand-written text. (The paper writes the squared distance, twice that on unit vectors; the released code this.)
    With a context conditioned on images the mean is over the images, too.

    Args:
        weight: Of the term (paper: 8).
        template: The hand-written text, `{}` for the name.

    Cost:
        Nothing to speak of: the forward pass's features are used.

    When:
        Classes beyond those trained on are to be told apart as well.

    Reference:
        Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023,
        https://arxiv.org/abs/2303.13283
    """

    weight: float = hyperparameter(8.0, low=0, help="Weight of the term.")
    template: str = "a photo of a {}."

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.template, self.name)

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        model = classifier(model, self.name)
        check_that_texts_train(model, self.name)
        features = encode_without_prompts(model, model.active_config.class_names, [self.template], tokenizer)
        self._targets = normalize(features[0], dim=-1)

    def term(self, batch: Batch) -> torch.Tensor:
        distances = one_minus_cosine(features_of(batch, "class_features"), self._targets)
        return self.weight * batch.mean(distances.mean(-1))


def one_minus_cosine(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """`1 - cos` of normalised vectors along the last dimension."""
    return 1 - (features * targets.to(features)).sum(-1)


@dataclass
class PromptSRC(Objective, name="promptsrc"):
    """Self-regulating prompts: features and logits keep to the base model's, and the prompts to their own trajectory.

    `L + λ_t·mean|t - t̂| + λ_v·mean|v - v̂| + KL(softmax(ẑ) ‖ softmax(z)) / C`, with t, v and z the features of the C
    classes and of the images and the logits, and t̂, v̂ and ẑ those without prompts, t̂ averaged over hand-written
    texts and v̂ of the same augmented images. At the run's end the prompts become their mean over the epochs, epoch e
    weighted by the density of N(average_mean, average_std²) at e, counted from 1.

    The last epoch's evaluation and checkpoint are of the averaged prompts, and `load_best_model_at_end` may still
    choose another epoch's. A run that is stopped early without it takes the mean over the epochs it had.

    Args:
        text_weight: λ_t, of the classes' features (paper: 25).
        image_weight: λ_v, of the images' features (paper: 10).
        logits_weight: Of the divergence (paper: 1).
        average_mean: The epoch that counts most in the mean (paper: 15 of 20 for base-to-novel, 6 of 20 for
            cross-dataset, 30 or 45 of 50 for few-shot).
        average_std: How widely it counts (paper: 1; 10; 30 or 5).
        templates: The hand-written texts, as [`NFL`] takes them (the released code: `"imagenet_60"`).

    Cost:
        A forward pass of the image tower per step, where vision tokens train.

    When:
        Prompts in both towers, which overfit easily.

    Reference:
        Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023,
        https://arxiv.org/abs/2307.06948
    """

    needs_frozen_images = True

    text_weight: float = hyperparameter(25.0, low=0, help="Weight of the distance of text features.")
    image_weight: float = hyperparameter(10.0, low=0, help="Weight of the distance of image features.")
    logits_weight: float = hyperparameter(1.0, low=0, help="Weight of the divergence of logits.")
    average_mean: float = hyperparameter(15.0, help="Epoch that counts most in the average of the prompts.")
    average_std: float = hyperparameter(1.0, above=0, help="Standard deviation, in epochs, of what counts.")
    templates: Templates = "imagenet_7"

    def __post_init__(self) -> None:
        super().__post_init__()
        read_templates(self.templates, self.name)

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        model = classifier(model, self.name)
        templates = read_templates(self.templates, self.name)
        features = encode_without_prompts(model, model.active_config.class_names, templates, tokenizer)
        self._targets = normalize(features.mean(dim=0), dim=-1)  # of features as they are, as the released code does

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
        # A running mean, its total weight as a logarithm: however far the epochs are from average_mean.
        now = flatten(trainable(model))
        epochs = self.state["epochs"] + 1 if self.state else torch.ones((), dtype=torch.float64)
        log_weight = -0.5 * ((epochs - self.average_mean) / self.average_std) ** 2
        log_total = torch.logaddexp(self.state["log_total"], log_weight) if self.state else log_weight
        mean = self.state["mean"].to(now) if self.state else now
        mean = mean + float((log_weight - log_total).exp()) * (now - mean)
        self.state = {"mean": mean, "epochs": epochs, "log_total": log_total}

    @torch.no_grad()
    def end_run(self, model: nn.Module) -> None:
        if self.state:
            parameters = trainable(model)
            parts = self.state["mean"].split([parameter.numel() for parameter in parameters])
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.copy_(part.view_as(parameter))


@dataclass
class ProGrad(ConstrainingObjective, name="prograd"):
    """Prompt-aligned gradients: no step against what the base model's predictions teach.

    With d the rule's direction and `g_z` the gradient of `T²·KL(softmax(ẑ/T) ‖ softmax(z/T))`, ẑ the zero-shot logits
    of hand-written texts:

        d                        where cos(d, g_z) ≥ 0
        d - λ·(d·u(g_z))·u(g_z)  elsewhere

    With plain training d is the gradient, as in the paper. (Its code treats tensors one by one, which is the same on
    one tensor, as it trains.) What is constrained is the direction that a rule found, since that is the step that
    would be taken; SubPT projects what comes of it, since otherwise the step would leave the subspace.

    Args:
        lmbda: λ, how much of the conflicting part is removed (paper: 1; 0.8 for some data sets).
        temperature: T, which softens both (paper: 1).
        template: The hand-written text, `{}` for the name.

    Cost:
        1 gradient evaluation per step more than the rule's.

    When:
        Few shots, which a prompt would fit by unlearning what the model knew.

    Reference:
        Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023, https://arxiv.org/abs/2205.14865
    """

    needs_frozen_images = True

    lmbda: float = hyperparameter(1.0, low=0, help="How much of the conflicting part is removed.")
    temperature: float = hyperparameter(1.0, above=0, help="Temperature of both distributions.")
    template: str = "a photo of a {}."

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.template, self.name)

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        model = classifier(model, self.name)
        features = encode_without_prompts(model, model.active_config.class_names, [self.template], tokenizer)
        self._targets = normalize(features[0], dim=-1)

    def term(self, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            frozen_images = image_features_without_prompts(batch, self.name)
            zero_shot = classifier(batch.model, self.name).compare(frozen_images, self._targets.to(frozen_images))
        return batch.mean(divergence(zero_shot, batch.logits, self.temperature))

    def constrain(self, direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        general = normalize(gradient, dim=0)
        return direction - self.lmbda * (direction @ general).clamp(max=0) * general
