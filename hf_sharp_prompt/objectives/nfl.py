from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from ..data.loading import load_class_names
from ..hyperparameters import hyperparameter
from .batch import Batch
from .distances import one_minus_cosine
from .imagenet import IMAGENET_100_CLASSES
from .objective import Objective
from .templates import Templates, read_lines, read_templates
from .zero_shot import check_that_texts_train, classifier, encode_without_prompts, find_tokenizer


logger = logging.getLogger(__name__)

NAME_LISTS: dict[str, Sequence[str]] = {"imagenet_100": IMAGENET_100_CLASSES}
"""Names of classes that come with the package."""


@dataclass
class NFL(Objective, name="nfl"):
    """The novel feature learner: classes without images keep the features of their hand-written texts.

    `L + weight·mean_c(1 - cos(t_c, t̂_c))` over novel classes c, `t_c` the feature of the name behind the learned
    context, as the adapter's class template has it, `t̂_c` the mean over hand-written texts of the features without it.

    Novel names that are also names of the classes trained on are left out, with a warning. A context conditioned on
    images is taken as it is without one.

    Args:
        novel_class_names: The names: a list; `"imagenet_100"`, 100 of ImageNet's, which the released code takes for
            few-shot runs; a text file with one in each line; or a data set, as `load_image_dataset` takes it, whose
            class names are meant. (For base-to-novel runs the released code takes the novel classes' names of the data
            set itself, which the example script gives for `"own"`.)
        weight: Of the term (paper: 1).
        templates: The hand-written texts: one, a list, a text file with one in each line, or the name of an ensemble,
            `"imagenet_80"`, `"imagenet_60"` or `"imagenet_7"` (the released code: CLIP's 80 and the data set's own,
            `["imagenet_80", "a photo of a {}, a type of pet."]`).

    Cost:
        The novel names' texts in every gradient evaluation.

    When:
        It is known what else images may show.

    Reference:
        Ma et al., "Understanding and Mitigating Overfitting in Prompt Tuning for Vision-Language Models", IEEE TCSVT
        2023, https://arxiv.org/abs/2211.02219
    """

    novel_class_names: Sequence[str] | str = ()
    weight: float = hyperparameter(1.0, low=0, help="Weight of the term.")
    templates: Templates = "imagenet_7"

    def __post_init__(self) -> None:
        super().__post_init__()
        read_templates(self.templates, self.name)
        names = self.novel_class_names
        if not names or not (isinstance(names, str) or all(isinstance(name, str) and name.strip() for name in names)):
            raise ValueError(
                "nfl: novel_class_names must be the names of classes without images: a list, a text file with one in "
                f"each line, or a data set with such classes; got {names!r}."
            )

    def begin_run(self, model: nn.Module, tokenizer: Any = None) -> None:
        model = classifier(model, self.name)
        check_that_texts_train(model, self.name)
        config = model.active_config
        if config.class_specific:
            raise ValueError(
                "nfl needs a context that novel names have as well, and with class_specific=True each of the classes "
                "trained on has its own; drop one of them."
            )
        names = self._read_names(config.class_names)
        tokenizer = tokenizer or find_tokenizer(model)
        features = encode_without_prompts(model, names, read_templates(self.templates, self.name), tokenizer)
        self._targets = normalize(normalize(features, dim=-1).mean(dim=0), dim=-1)
        self._texts = model.tokenize_names(names, tokenizer, config.class_template)

    def _read_names(self, class_names: Sequence[str]) -> list[str]:
        names = self.novel_class_names
        if isinstance(names, str):
            names = _find_names(names)
        names = list(dict.fromkeys(name.replace("_", " ").strip() for name in names))
        trained = {name.casefold() for name in class_names}
        if dropped := [name for name in names if name.casefold() in trained]:
            logger.warning(f"nfl leaves out what is no novel class but trained on: {', '.join(dropped)}.")
        novel = [name for name in names if name.casefold() not in trained]
        if not novel:
            raise ValueError("nfl: none of novel_class_names is a name of other classes than those trained on.")
        return novel

    def term(self, batch: Batch) -> torch.Tensor:
        features = classifier(batch.model, self.name).encode_names(*self._texts)
        features = normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
        return self.weight * batch.mean(one_minus_cosine(features, self._targets).mean())


def _find_names(name: str) -> Sequence[str]:
    """The names that one name stands for: a list that comes with the package, a text file, or a data set."""
    if name in NAME_LISTS:
        return NAME_LISTS[name]
    return read_lines(name) if Path(name).expanduser().is_file() else load_class_names(name)
