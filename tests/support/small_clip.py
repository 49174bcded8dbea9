"""What all tests share: the same random numbers, gradients that stay enabled, and a CLIP small enough to train."""

from types import SimpleNamespace

import accelerate.utils.memory
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, set_seed

from hf_sharp_prompt.demo import CLIP_PATH


# Accelerate collects garbage after every run of the Trainer, and looks at whatever all tests before have left: a fifth
# of the suite's time. Python's own collector goes on.
accelerate.utils.memory.gc = SimpleNamespace(collect=lambda: 0)
# How long torch waits for a worker whose loader was left with an error and is collected later, in another test.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_order_of_tests() -> None:
    set_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    """The demo's; reads any text in up to 77 tokens."""
    return AutoTokenizer.from_pretrained(CLIP_PATH)


@pytest.fixture(scope="session")
def image_processor() -> CLIPImageProcessor:
    """The demo's; 48 × 48 pixels."""
    return CLIPImageProcessor.from_pretrained(CLIP_PATH)


@pytest.fixture(scope="session")
def checkpoint(
    tokenizer: CLIPTokenizer, image_processor: CLIPImageProcessor, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The directory of a random CLIP of two layers, with the demo's tokenizer and image processor."""
    path = tmp_path_factory.mktemp("clip")
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**layers, **tokens},
        vision_config={**layers, "image_size": 48, "patch_size": 16},
        projection_dim=24,
    )
    set_seed(0)
    CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    image_processor.save_pretrained(path)
    return str(path)


@pytest.fixture
def clip(checkpoint: str) -> CLIPModel:
    """A fresh copy of the small CLIP, in float32."""
    return CLIPModel.from_pretrained(checkpoint).eval()


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Four images of noise."""
    pixels = torch.randint(256, (4, 48, 48, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in pixels]


@pytest.fixture(scope="session")
def pixel_values(images: list[Image.Image], image_processor: CLIPImageProcessor) -> torch.Tensor:
    """What the model sees of `images`."""
    return image_processor(images, return_tensors="pt")["pixel_values"]


@pytest.fixture(autouse=True)
def gradients_stay_enabled():
    yield
    assert torch.is_grad_enabled(), "this test left gradients disabled"
