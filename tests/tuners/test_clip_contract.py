"""PEFT's contract over all designs on all CLIP-like models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from tuners import contract
from tuners.clip_designs import NAMES, PAIRS, TEMPLATE, make_config
from tuners.clip_models import (
    BUILT_ON,
    COMPARING,
    comparing_part,
    image_inputs,
    inputs_of,
    make_model,
    tokenizer_of,
)


LABELS = torch.tensor([1, 0])


class OfFeatures(contract.Case):
    """Of models that return features instead of logits and a loss."""

    def logits(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return self.features(model)

    def loss(self, model: nn.Module) -> torch.Tensor:
        return self.features(model).square().mean()

    def features(self, model: nn.Module) -> torch.Tensor:
        output = model(**self.batch)
        return next(output[key] for key in ("text_embeds", "image_embeds", "pooler_output") if key in output)


class OfParts(OfFeatures):
    """Of models that hold one which compares; parts of CLIPSeg's are run without a graph."""

    def features(self, model: nn.Module) -> torch.Tensor:
        part = comparing_part(model.get_base_model())
        texts = part.get_text_features(self.batch["input_ids"]).pooler_output
        images = part.get_image_features(self.batch["pixel_values"]).pooler_output
        return torch.cat([texts, images])


def a_case(design: str, name: str) -> contract.Case:
    def make_base(dtype: torch.dtype) -> nn.Module:
        return make_model(name, dtype)

    def classifying(base: nn.Module, *args: Any, **kwargs: Any) -> PeftModel:
        model = get_peft_model(base, *args, **kwargs)
        model.set_classes(NAMES, tokenizer_of(name), TEMPLATE)
        return model

    arguments = make_base, lambda: make_config(design, name)
    if name in COMPARING:
        batch = image_inputs(name) | {"labels": LABELS}
        return contract.Case(*arguments, batch, classifying, inputs_of(name))
    if name in BUILT_ON:
        return OfParts(*arguments, inputs_of(name))
    if name.endswith("ForImageClassification"):
        return contract.Case(*arguments, inputs_of(name) | {"labels": LABELS})
    return OfFeatures(*arguments, inputs_of(name))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("design", "name"), PAIRS)
def test_contract(design: str, name: str, check: Callable, tmp_path: Path):
    check(a_case(design, name), tmp_path)
