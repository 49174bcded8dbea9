import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture(tmp_path):
    """Write a picture of random colours, and return its path."""

    def write(path, size=(10, 8)):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(file)
        return file

    return write


@pytest.fixture
def mask(tmp_path):
    """Write a mask, and return its path."""

    def write(path, values, mode=None):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.asarray(values, np.uint8 if mode != "I;16" else np.uint16))
        if mode == "P":
            image = Image.fromarray(np.asarray(values, np.uint8), "L")
            image.putpalette([value for index in range(256) for value in (index, 255 - index, 7 * index % 256)])
        image.save(file)
        return file

    return write
