"""What tests of several examples read."""

from pathlib import Path

import pytest
from support.demo_images import images_once, make_folder

from hf_sharp_prompt.cards import pictures
from hf_sharp_prompt.demo import Task


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of images, not to be written to."""
    return make_folder(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's images take seconds, and tests of cards draw the curve of a run."""
    monkeypatch.setattr(Task, "images", images_once)
    monkeypatch.setattr(pictures, "plot_curve", lambda *_: None)
