from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ..hyperparameters import hyperparameter
from .batch import Batch
from .distances import divergence
from .objective import ConstrainingObjective
from .templates import check_template
from .zero_shot import classifier, encode_without_prompts, image_features_without_prompts


@dataclass
class ProGrad(ConstrainingObjective, name="prograd"):
    """Prompt-aligned gradients: no step goes against the base model's predictions.

    d is the rule's direction, and `g_z` the gradient of `T²·KL(softmax(ẑ/T) ‖ softmax(z/T))`, with ẑ the zero-shot
    logits of hand-written texts. The step follows

        d                        where cos(d, g_z) ≥ 0
        d - λ·(d·u(g_z))·u(g_z)  elsewhere

    With plain training d is the gradient, as in the paper. (Its code treats each tensor separately, which is the same
    for the one tensor that it trains.) The direction of the rule is constrained, since it is the step that would be
    taken. SubPT projects the result, since otherwise the step would leave the subspace.

    Args:
        weight: λ, how much of the conflicting part is removed (paper: 1; 0.8 for some data sets).
        temperature: T, which softens both distributions (paper: 1).
        template: The hand-written text, with `{}` for the class name.

    Cost:
        One more gradient evaluation per step than the rule's.

    When:
        Few shots, which a prompt could fit by forgetting what the model knows.

    Reference:
        Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023, https://arxiv.org/abs/2205.14865
    """

    needs_frozen_images = True

    weight: float = hyperparameter(1.0, low=0, help="How much of the conflicting part is removed.", formerly="lmbda")
    temperature: float = hyperparameter(1.0, above=0, help="Temperature of both distributions.")
    template: str = "a photo of a {}."

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.template, self.name)

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        names = classifier(model, self.name).active_config.class_names
        features = encode_without_prompts(model, self.name, names, [self.template], tokenizer)
        self._targets = normalize(features[0], dim=-1)

    def term(self, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            frozen_images = image_features_without_prompts(batch, self.name)
            zero_shot = classifier(batch.model, self.name).compare(frozen_images, self._targets.to(frozen_images))
        return batch.mean(divergence(zero_shot, batch.logits, self.temperature))

    def constrain(self, direction: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        general = normalize(gradient, dim=0)
        return direction - self.weight * (direction @ general).clamp(max=0) * general
