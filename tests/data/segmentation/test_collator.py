"""Batches of images and masks: what is scaled, and what is lost."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_sharp_prompt.data.segmentation import BACKGROUND, IGNORED, SegmentationCollator


NAMES = ["background", "cat", "dog"]


def example(height, width, value=1):
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = value
    return {"image": Image.new("RGB", (width, height), "red"), "mask": Image.fromarray(mask)}


def test_nothing_is_cropped_and_masks_follow_their_images(image_processor):
    """A centre crop would lose the ends of a wide image, and its truth."""
    wide = example(20, 200)
    values = np.asarray(wide["mask"]).copy()
    values[:, :10] = 2  # at the far left
    wide["mask"] = Image.fromarray(values)
    pixels = np.zeros((20, 200, 3), np.uint8)
    pixels[:, :10] = 255
    wide["image"] = Image.fromarray(pixels)
    batch = SegmentationCollator(image_processor, NAMES)([wide])
    assert batch["pixel_values"].shape == (1, 3, 48, 48)
    assert batch["labels"].shape == (1, 48, 48)
    is_dog, is_bright = batch["labels"][0] == 1, batch["pixel_values"][0, 0] > 0
    assert is_dog.any()
    assert (is_dog == is_bright).float().mean() > 0.98
    assert sorted(batch["labels"].unique().tolist()) == [-1, 0, 1]


def test_masks_keep_their_own_sizes_to_measure(image_processor):
    collate = SegmentationCollator(image_processor, NAMES, own_sizes=True)
    batch = collate([example(6, 9), example(8, 4, 2)])
    assert batch["label_sizes"].tolist() == [[6, 9], [8, 4]]
    assert batch["labels"].shape == (2, 8, 9)
    assert (batch["labels"][0, 6:] == IGNORED).all()
    assert (batch["labels"][1, :, 4:] == IGNORED).all()
    assert batch["labels"][0, 0].tolist() == [0] * 9


def test_other_classes_are_ignored_and_background_as_asked(image_processor):
    collate = SegmentationCollator(image_processor, NAMES, ["dog"], background=IGNORED)
    labels = collate([example(8, 8, 1), example(8, 8, 2)])["labels"]
    assert labels[0].unique().tolist() == [IGNORED]
    assert labels[1].unique().tolist() == [IGNORED, 0]
    assert SegmentationCollator(image_processor, NAMES)([example(8, 8)])["labels"].min() == BACKGROUND


def test_the_size_may_be_larger_than_the_processors(image_processor):
    batch = SegmentationCollator(image_processor, NAMES, size=(96, 64))([example(8, 8)])
    assert batch["pixel_values"].shape == (1, 3, 96, 64)
    assert batch["labels"].shape == (1, 96, 64)


def test_images_without_masks_make_batches_to_predict(image_processor):
    batch = SegmentationCollator(image_processor, NAMES)([{"image": Image.new("L", (3, 3))}])
    assert [*batch] == ["pixel_values"]


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"mask": Image.new("L", (3, 3))}, r"number 0 of its batch is 3 × 3 pixels and the image 8 × 8"),
        ({"mask": Image.new("L", (8, 8), 9)}, "has the pixel value 9, but there are 3 names"),
        ({"mask": None}, "An example of a batch has no mask"),
        ({"image": None}, "An example of a batch has no image"),
        ({"mask": "nowhere.png"}, "nowhere.png cannot be decoded"),
    ],
)
def test_what_does_not_fit_is_refused(spoiled, message, image_processor):
    with pytest.raises(ValueError, match=message):
        SegmentationCollator(image_processor, NAMES)([{**example(8, 8), **spoiled}])


def test_a_processor_without_a_size_needs_one(image_processor):
    class Processor:
        size = {"longest_edge": 3}

    with pytest.raises(ValueError, match=r"names no height and width; give the collator size=\(height, width\)"):
        SegmentationCollator(Processor(), NAMES)


def test_labels_are_64_bit_integers(image_processor):
    assert SegmentationCollator(image_processor, NAMES)([example(8, 8)])["labels"].dtype == torch.long
