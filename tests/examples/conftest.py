"""What tests of several examples read."""

from pathlib import Path

import pytest
from support.demo_images import make_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of images, not to be written to."""
    return make_folder(tmp_path_factory.mktemp("data") / "shapes")
