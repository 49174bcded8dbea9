"""What all tests share: no network, no caches left behind, few threads, and a CLIP small enough to train in a test."""
# ruff: noqa: E402 (the libraries read the environment once, when they are imported)

import gc
import os
import tempfile


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores
_caches = tempfile.TemporaryDirectory(prefix="hf_sharp_prompt_tests-")
for _name in ("HF_DATASETS_CACHE", "HF_METRICS_CACHE", "HF_MODULES_CACHE", "HF_ASSETS_CACHE"):
    os.environ[_name] = os.path.join(_caches.name, _name)

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, set_seed

from hf_sharp_prompt.demo import CLIP_PATH


# How long torch waits for a worker whose loader was left with an error and is collected later, in another test.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5

# Workers take whole files in this order; a long one at the end would keep one worker busy alone.
LONGEST_FILES = [
    *("test_two_processes.py", "test_run_base2novel.py", "test_clip_contract.py", "test_recipes.py"),
    *("test_checkpoint.py", "test_feature_cache.py", "test_runs.py", "test_local_hub.py"),
    *("test_vit_prompt.py", "test_fidelity.py", "test_precision.py", "test_trainer.py"),
    *("test_convert.py", "test_clip_designs.py", "test_run_long_tail.py", "test_experiments.py"),
    *("test_gpu_check.py", "test_report.py", "test_vision_tower.py", "test_study_overfitting.py"),
    *("test_commands.py", "test_gated_data.py"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """Accelerate collects garbage after every run of the Trainer; half of the time went into all that is imported."""
    gc.collect()
    gc.freeze()


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
