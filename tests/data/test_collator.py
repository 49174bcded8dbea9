"""Batches are what the model's own processor makes of the images, and a broken image is named."""

import io
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPProcessor

from hf_sharp_prompt.data import ImageCollator, load_image_dataset


def test_a_batch_is_what_the_processor_makes_of_it(images, pixel_values, image_processor, tokenizer):
    """Otherwise the model sees other pixels in training than in use."""
    examples = [{"image": image, "label": label} for image, label in zip(images, [2, 0, 1, 1], strict=True)]
    for processor in (image_processor, CLIPProcessor(image_processor, tokenizer)):
        batch = ImageCollator(processor)(examples)
        assert batch.keys() == {"pixel_values", "labels"}
        assert torch.equal(batch["pixel_values"], pixel_values)
        assert batch["labels"].tolist() == [2, 0, 1, 1]


def test_images_without_labels_make_a_batch(images, image_processor):
    """Otherwise prediction on unlabelled images fails."""
    assert ImageCollator(image_processor)([{"image": image} for image in images]).keys() == {"pixel_values"}


def test_examples_that_are_model_inputs_already_are_stacked(image_processor):
    """Otherwise image features computed once cannot be trained on."""
    examples = [{"image_features": torch.ones(3) * number, "labels": torch.tensor(number)} for number in range(2)]
    batch = ImageCollator(image_processor)(examples)
    assert torch.equal(batch["image_features"], torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert batch["labels"].tolist() == [0, 1]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_mode_are_read_as_colours(image_processor, mode):
    """Otherwise one grey or transparent image among thousands ends the run."""
    image = Image.new("RGB", (48, 48), (255, 255, 255)).convert(mode)
    white = ImageCollator(image_processor)([{"image": Image.new("RGB", (48, 48), (255, 255, 255))}])
    assert torch.equal(ImageCollator(image_processor)([{"image": image}])["pixel_values"], white["pixel_values"])


def test_augmentation_comes_before_the_processor(images, image_processor, pixel_values):
    """Otherwise it is not applied, or the result is not of the model's size."""

    def flip(image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    batch = ImageCollator(image_processor, augment=flip)([{"image": image} for image in images])
    torch.testing.assert_close(batch["pixel_values"], pixel_values.flip(-1))


@pytest.mark.parametrize("damage", ["not an image", "truncated", "missing"])
def test_a_broken_image_of_a_folder_is_named(tmp_path, image_processor, damage):
    """Otherwise the user learns that one of ten thousand files is broken, but not which."""
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(3):
            pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{number}.jpg")
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    broken = tmp_path / "train" / "bee" / "1.jpg"
    if damage == "not an image":
        broken.write_bytes(b"<html>")
    elif damage == "truncated":
        broken.write_bytes(broken.read_bytes()[:-300])
    rows = list(load_image_dataset(str(tmp_path))["train"])
    if damage == "missing":
        broken.unlink()
    collator = ImageCollator(image_processor)
    (number,) = [index for index, row in enumerate(rows) if Path(row["image"]["path"]) == broken]
    assert collator(rows[:number])["labels"].tolist() == [row["label"] for row in rows[:number]]
    with pytest.raises(ValueError, match=rf"The image {broken} cannot be decoded \(.+\); repair or remove it"):
        collator(rows)


@pytest.mark.parametrize("content", [b"<html>", None])
def test_a_broken_image_given_as_bytes_is_reported(image_processor, content):
    """Otherwise a broken image of a saved data set ends in a TypeError."""
    with pytest.raises(ValueError, match=r"The image \(given as bytes\) cannot be decoded"):
        ImageCollator(image_processor)([{"image": {"bytes": content, "path": None}, "label": 0}])


def test_bytes_are_decoded(images, pixel_values, image_processor):
    """Otherwise images of saved data sets and of the demo cannot be read."""
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, format="png")
        files.append({"image": {"bytes": buffer.getvalue(), "path": None}})
    assert torch.equal(ImageCollator(image_processor)(files)["pixel_values"], pixel_values)
