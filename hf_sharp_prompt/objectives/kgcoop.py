from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ..hyperparameters import hyperparameter
from .batch import Batch
from .distances import one_minus_cosine
from .objective import Objective
from .templates import check_template
from .zero_shot import check_that_texts_train, classifier, encode_without_prompts, features_of


@dataclass
class KgCoOp(Objective, name="kgcoop"):
    """Knowledge-guided context optimisation: classes keep the features of their hand-written texts.

    `L + weight·mean_c(1 - cos(t_c, t̂_c))`, `t_c` the feature of class c behind the learned context, `t̂_c` that of its
    hand-written text. (This is the released code's term. The paper writes the squared distance, which is twice this
    on unit vectors.) With a context conditioned on images the mean is over the images, too.

    Args:
        weight: The weight of the term (paper: 8).
        template: The hand-written text, with `{}` for the class name.

    Cost:
        Almost nothing: it uses the features of the forward pass.

    When:
        The prompt must also tell classes apart that it is not trained on.

    Reference:
        Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023,
        https://arxiv.org/abs/2303.13283
    """

    reads_image_logits = False

    weight: float = hyperparameter(8.0, low=0, help="Weight of the term.")
    template: str = "a photo of a {}."

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.template, self.name)

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        prompted = classifier(model, self.name)
        check_that_texts_train(prompted, self.name)
        names = prompted.active_config.class_names
        features = encode_without_prompts(model, self.name, names, [self.template], tokenizer)
        self._targets = normalize(features[0], dim=-1)

    def term(self, batch: Batch) -> torch.Tensor:
        distances = one_minus_cosine(features_of(batch, "class_features"), self._targets)
        return self.weight * batch.mean(distances.mean(-1))
