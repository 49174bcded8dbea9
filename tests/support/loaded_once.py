"""The base model of protocols, read once in a process: a copy takes a third of the time, and a run takes several."""

import copy
import functools

import pytest
from transformers import CLIPModel

from hf_sharp_prompt.experiments.clip import CLIPImages


def copy_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give protocols copies of models that are read once."""
    monkeypatch.setattr(CLIPImages, "load_model", lambda images: copy.deepcopy(_load(images.args.model)))


@functools.cache
def _load(model: str) -> CLIPModel:
    return CLIPModel.from_pretrained(model).eval()
