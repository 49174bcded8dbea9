"""An image that cannot be decoded ends an experiment in one sentence with its name."""

from itertools import chain
from pathlib import Path

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from hf_sharp_prompt.data import ImageCollator, load_image_dataset
from hf_sharp_prompt.experiments.failures import in_one_sentence


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_named_in_one_sentence(tmp_path: Path, image_processor, workers):
    """A loader's workers put the whole traceback into the message."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "2.png").write_bytes(b"no image")
    images = load_image_dataset(str(tmp_path))
    loaders = [
        DataLoader(split, 2, collate_fn=ImageCollator(image_processor), num_workers=workers)
        for split in images.values()
    ]
    with pytest.raises(ValueError, match="it is no image") as raised:
        list(chain(*loaders))
    said = in_one_sentence(raised.value)
    assert said == f"The image {tmp_path}/cat/2.png cannot be decoded (it is no image); repair or remove it."
