from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ..hyperparameters import hyperparameter
from .batch import Batch
from .class_names import read_class_names
from .distances import one_minus_cosine
from .objective import Objective
from .templates import Templates, read_templates
from .zero_shot import check_that_texts_train, classifier, encode_without_prompts, find_tokenizer


logger = logging.getLogger(__name__)


@dataclass
class NFL(Objective, name="nfl"):
    """The novel feature learner: classes without images keep the features of their hand-written texts.

    `L + weight·mean_c(1 - cos(t_c, t̂_c))` over novel classes c, `t_c` the feature of the name behind the learned
    context, as the adapter's class template has it, `t̂_c` the mean over hand-written texts of the features without it.

    Names of classes that are trained on are left out, with a warning. A context conditioned on images is used as it is
    without an image.

    Args:
        novel_class_names: The names: a list; a text file with one name in each line; or `"imagenet_100"`, 100 of
            ImageNet's names, which the released code takes for few-shot runs. The Trainer's argument `objectives` also
            takes a data set, as `load_image_dataset` does, and reads its class names. (For base-to-novel runs the
            released code takes the names of the data set's own novel classes, for which the example script takes
            `"own"`.)
        weight: The weight of the term (paper: 1).
        templates: The hand-written texts: one, a list, a text file with one in each line, or the name of an ensemble,
            `"imagenet_80"`, `"imagenet_60"` or `"imagenet_7"` (the released code: CLIP's 80 and the data set's own,
            `["imagenet_80", "a photo of a {}, a type of pet."]`).

    Cost:
        The novel names' texts are encoded in every gradient evaluation.

    When:
        The names of classes are known that images may show later.

    Reference:
        Ma et al., "Understanding and Mitigating Overfitting in Prompt Tuning for Vision-Language Models", IEEE TCSVT
        2023, https://arxiv.org/abs/2211.02219
    """

    reads_image_logits = False

    novel_class_names: Sequence[str] | str = ()
    weight: float = hyperparameter(1.0, low=0, help="Weight of the term.")
    templates: Templates = "imagenet_7"

    def __post_init__(self) -> None:
        super().__post_init__()
        read_templates(self.templates, self.name)
        names = self.novel_class_names
        if not names or not (isinstance(names, str) or all(isinstance(name, str) and name.strip() for name in names)):
            raise ValueError(
                "nfl: novel_class_names must be the names of classes without images: a list, or a text file with one "
                f"in each line; got {names!r}."
            )

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        prompted = classifier(model, self.name)
        check_that_texts_train(prompted, self.name)
        config = prompted.active_config
        if config.class_specific:
            raise ValueError(
                "nfl needs a context that novel names have as well, and with class_specific=True each of the classes "
                "trained on has its own; drop one of them."
            )
        names = self._read_names(config.class_names)
        tokenizer = find_tokenizer(prompted, tokenizer)
        templates = read_templates(self.templates, self.name)
        features = encode_without_prompts(model, self.name, names, templates, tokenizer)
        self._targets = normalize(normalize(features, dim=-1).mean(dim=0), dim=-1)
        self._texts = prompted.tokenize_names(names, tokenizer, config.class_template)

    def _read_names(self, class_names: Sequence[str]) -> list[str]:
        source = self.novel_class_names
        listed = read_class_names(source, self.name) if isinstance(source, str) else source
        names = list(dict.fromkeys(name.replace("_", " ").strip() for name in listed))
        trained = {name.casefold() for name in class_names}
        if dropped := [name for name in names if name.casefold() in trained]:
            logger.warning(f"nfl leaves out the names of classes that are trained on: {', '.join(dropped)}.")
        novel = [name for name in names if name.casefold() not in trained]
        if not novel:
            raise ValueError("nfl: none of novel_class_names is a name of other classes than those trained on.")
        return novel

    def term(self, batch: Batch) -> torch.Tensor:
        features = classifier(batch.model, self.name).encode_names(*self._texts)
        features = normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
        return self.weight * batch.mean(one_minus_cosine(features, self._targets).mean())
