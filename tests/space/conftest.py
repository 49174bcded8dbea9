"""The Space of the demo as it ships: two prompts of its CLIP, and images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub.client import without_waiting
from hub.local_hub import LocalHub

from hf_sharp_prompt.space.folder import load_prompts
from hf_sharp_prompt.space.prompts import ComparedPrompts


SPACE = Path(__file__).parents[2] / "examples" / "space"


@pytest.fixture(scope="session")
def space() -> Path:
    """Not to be written to."""
    return SPACE


@pytest.fixture(scope="session")
def prompts() -> ComparedPrompts:
    return load_prompts(SPACE)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[LocalHub]:
    with without_waiting(tmp_path / "cache", monkeypatch) as hub:
        yield hub
