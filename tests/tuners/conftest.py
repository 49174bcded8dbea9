"""The small CLIP of all tests with a learned context, in memory and on disk, and CLIPs like it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
)
from tuners.coop import HISTORICAL_EOS_TOKEN_ID, NAMES, prompted


@pytest.fixture(params=["eos", "historical eos"])
def either_clip(request: pytest.FixtureRequest, checkpoint: str) -> CLIPModel:
    """The small CLIP in float64, pooling at the first EOS or, as OpenAI's checkpoints do, at the largest token id."""
    config = CLIPConfig.from_pretrained(checkpoint)
    if request.param == "historical eos":
        config.text_config.eos_token_id = HISTORICAL_EOS_TOKEN_ID
    return CLIPModel.from_pretrained(checkpoint, config=config, dtype=torch.float64).eval()


@pytest.fixture
def model(clip: CLIPModel, tokenizer: CLIPTokenizer) -> PeftModel:
    model = prompted(clip, num_text_tokens=4)
    model.set_classes(NAMES, tokenizer)
    return model


@pytest.fixture
def saved(model: PeftModel, tmp_path: Path) -> Path:
    """The directory of the adapter of `model`."""
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def another_clip(checkpoint: str) -> Callable[..., CLIPModel]:
    """Makes CLIPs like the checkpoint's but for their text tower's config."""

    def make(**text_config: Any) -> CLIPModel:
        config = CLIPConfig.from_pretrained(checkpoint)
        config.text_config.update(text_config)
        return CLIPModel(config).eval()

    return make
