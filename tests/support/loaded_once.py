"""The base model of protocols, read once in a process."""

import functools

import pytest
from transformers import CLIPModel

from hf_sharp_prompt.experiments.clip import CLIPImages


def load_models_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all protocols of a process the same model; they change copies alone."""
    monkeypatch.setattr(CLIPImages, "model", property(lambda images: _load(images.args.model)))


@functools.cache
def _load(model: str) -> CLIPModel:
    return CLIPModel.from_pretrained(model).eval()
