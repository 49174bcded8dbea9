"""Masks of every kind, and what cannot be one."""

import io

import numpy as np
import pytest
from PIL import Image

from hf_sharp_prompt.data.segmentation import labels_of_values, read_mask
from hf_sharp_prompt.data.segmentation.masks import size_of_image


VALUES = np.array([[0, 1, 2], [255, 3, 0]])


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I", "RGB of grey", "array", "1"])
def test_the_numbers_of_the_classes_come_out_as_they_are(mode, tmp_path):
    """A palette or 16 bits would otherwise become colours, and classes others."""
    values = VALUES if mode != "1" else VALUES % 2
    if mode == "P":
        image = Image.fromarray(values.astype(np.uint8), "L")
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768, np.uint8).tolist())
    elif mode == "RGB of grey":
        image = Image.fromarray(values.astype(np.uint8)).convert("RGB")
    elif mode == "array":
        assert read_mask(values).tolist() == values.tolist()
        return
    else:
        dtype = {"L": np.uint8, "I;16": np.uint16, "I": np.int32, "1": np.bool_}[mode]
        image = Image.fromarray(values.astype(dtype))
    file = tmp_path / ("mask.tiff" if mode == "I" else "mask.png")
    image.save(file)
    assert read_mask(str(file)).tolist() == values.tolist()
    assert read_mask(image).tolist() == values.tolist()


def test_a_mask_of_16_bits_has_classes_beyond_255(tmp_path):
    Image.fromarray(np.array([[700, 65535]], np.uint16)).save(tmp_path / "mask.png")
    assert read_mask(str(tmp_path / "mask.png")).tolist() == [[700, 65535]]


def test_what_is_no_mask_is_refused_by_name(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / "colours.png")
    Image.fromarray(VALUES.astype(np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "text.png").write_text("no picture")
    for name, message in {
        "colours.png": "picture in colours, whose classes are not known",
        "photo.jpg": "is a JPEG, whose compression changes the numbers of classes; save masks as PNG",
        "text.png": "cannot be decoded",
        "missing.png": "cannot be decoded",
    }.items():
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            read_mask(str(tmp_path / name))
    for array, message in (
        (np.full((2, 2), 0.5), "pixels of float64"),
        (np.zeros((2, 2, 5), np.int64), r"the shape \(2, 2, 5\)"),
        (np.zeros((0, 3), np.int64), r"has no pixels \(3 × 0\)"),
        (np.array([[0, -1]]), "has the pixel value -1"),
        ("nowhere", "cannot be decoded"),
        (None, "is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            read_mask(array)


def test_the_size_of_an_image_is_that_of_the_upright_one():
    image, exif = Image.new("RGB", (6, 4)), Image.Exif()
    exif[274] = 6
    encoded = io.BytesIO()
    image.save(encoded, "jpeg", exif=exif)
    assert size_of_image({"bytes": encoded.getvalue(), "path": None}) == (6, 4)
    assert size_of_image(image) == (4, 6)


def test_names_say_what_a_pixel_value_means():
    """Background counts against every class; other classes and unlabelled pixels count for nothing."""
    names = ["background", "cat", "dog", "unlabelled"]
    table = labels_of_values(names)
    assert [table[value] for value in (0, 1, 2, 3, 255)] == [-1, 0, 1, -100, -100]
    only_dogs = labels_of_values(names, ["dog"], background=-100)
    assert [only_dogs[value] for value in (0, 1, 2, 3, 255)] == [-100, -100, 0, -100, -100]
    with pytest.raises(ValueError, match="No pixel value is named 'dgo'; did you mean 'dog'"):
        labels_of_values(names, ["dgo"])
