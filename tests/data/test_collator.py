"""Batches are what the model's own processor makes of the images, and a broken image is named."""

import io
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from PIL import Image
from transformers import CLIPProcessor

from hf_sharp_prompt.data import ImageCollator, labels_of, load_image_dataset
from hf_sharp_prompt.data.columns import find_image_column, find_label_column


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


def test_augmentation_sees_colours(images, image_processor):
    """Otherwise an augmentation fails on the one grey image among thousands."""
    seen = []
    collator = ImageCollator(image_processor, augment=lambda image: seen.append(image.mode) or image)
    collator([{"image": image.convert(mode)} for image, mode in zip(images, ["L", "RGBA", "P", "CMYK"], strict=True)])
    assert seen == ["RGB"] * 4


@pytest.mark.parametrize("image_column", ["image", "img", "pixel_values", "jpg", "whatever"])
@pytest.mark.parametrize("label_column", ["label", "labels", "fine_label"])
def test_columns_are_found_by_their_usual_names(images, pixel_values, image_processor, image_column, label_column):
    """Data sets of the Hub name them so; otherwise labels are lost, and with them loss and metrics."""
    examples = [{image_column: image, label_column: number, "id": "x"} for number, image in enumerate(images)]
    batch = ImageCollator(image_processor)(examples)
    assert batch.keys() == {"pixel_values", "labels"}
    assert torch.equal(batch["pixel_values"], pixel_values)
    assert torch.equal(batch["labels"], torch.arange(4))


@pytest.mark.parametrize(
    "columns",
    [
        {"image": 0, "label": ClassLabel(2)},
        {"img": 0, "fine_label": ClassLabel(2)},
        {"pixel_values": 0, "labels": ClassLabel(2), "coarse_label": ClassLabel(2)},
        {"image": 0, "mask": 0, "label": ClassLabel(2), "fine": ClassLabel(2)},
    ],
)
def test_a_row_and_its_data_set_have_the_same_columns(images, columns):
    """Otherwise batches hold other labels than class counts, samplers and the model's names are of."""
    features = Features({name: of if isinstance(of, ClassLabel) else datasets.Image() for name, of in columns.items()})
    dataset = Dataset.from_dict({name: [images[0] if of == 0 else 1] for name, of in columns.items()}, features)
    row = dataset[0]
    assert find_image_column(row) == find_image_column(features) is not None
    assert find_label_column(row) == find_label_column(features) is not None
    assert labels_of(dataset).tolist() == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": 0, "label": 1, "labels": 1}, r"several label columns \(label, labels\); name the one to use"),
        ({"image": 0, "fine_label": 1, "coarse_label": 1}, r"label columns \(fine_label, coarse_label\).* are: image"),
        ({"left": 0, "right": 0, "label": 1}, r"several image columns \(left, right\); name the one to use"),
        (
            {"image": 0, "label": "cat"},
            r"label in column 'label' is 'cat', but the model takes the numbers of its classes; load",
        ),
        ({"image": 0, "label": 1.5}, "label in column 'label' is 1.5, but"),
        ({"image": 0, "label": True}, "label in column 'label' is True, but"),
        ({"image": 0, "label": None}, "label in column 'label' is None, which means that it is missing; leave"),
        ({"image": 0, "label": -1}, "label in column 'label' is -1, which means that it is missing; leave"),
    ],
)
def test_what_may_mean_several_things_is_refused(images, image_processor, columns, message):
    """Otherwise a guess decides what is learned."""
    examples = [{name: images[0] if value == 0 and value is not False else value for name, value in columns.items()}]
    with pytest.raises(ValueError, match=message):
        ImageCollator(image_processor)(examples)


def test_columns_may_be_named(images, pixel_values, image_processor):
    """The remedy that the errors give."""
    collator = ImageCollator(image_processor, image_column="right", label_column="species")
    batch = collator([{"left": images[1], "right": images[0], "label": 5, "species": 2}])
    assert torch.equal(batch["pixel_values"], pixel_values[:1])
    assert batch["labels"].tolist() == [2]
    with pytest.raises(ValueError, match=r"Example 1 of a batch has no column 'species'; its columns are right \("):
        collator([{"right": images[0], "species": 1}, {"right": images[0]}])


def test_labels_that_are_not_recognised_are_not_dropped_without_a_word(images, image_processor, caplog):
    """Otherwise an evaluation has no loss and no accuracy, and nobody knows why."""
    collator = ImageCollator(image_processor)
    for _ in range(2):
        assert collator([{"image": images[0], "species": 3}]).keys() == {"pixel_values"}
    assert caplog.text.count("None of the columns besides image is known as the label: species (int)") == 1


@pytest.mark.parametrize("make", [torch.tensor, np.asarray, list], ids=["tensors", "arrays", "lists"])
def test_soft_labels_make_a_matrix(images, image_processor, make):
    """As mixup makes them."""
    examples = [{"image": image, "label": make([0.25, 0.75])} for image in images[:2]]
    torch.testing.assert_close(
        ImageCollator(image_processor)(examples)["labels"].double(), torch.tensor([[0.25, 0.75]] * 2).double()
    )


@pytest.mark.parametrize("label", [np.int64(3), torch.tensor(3), np.uint8(3), -100])
def test_numbers_of_every_kind_are_labels(images, image_processor, label):
    """-100 is what torch's losses leave out."""
    labels = ImageCollator(image_processor)([{"image": images[0], "labels": label}])["labels"]
    assert (labels.tolist(), labels.dtype) == ([int(label)], torch.long)


@pytest.mark.parametrize("own", [torch.full((3, 48, 48), 7.0), np.full((3, 48, 48), 7.0)], ids=["tensor", "array"])
def test_pixel_values_of_a_transform_stay(images, image_processor, own):
    """Otherwise the user's augmentation is replaced without a word. The image is not even read."""
    collator = ImageCollator(image_processor, augment=lambda image: pytest.fail("the image was augmented"))
    batch = collator([{"image": image, "pixel_values": own, "label": 1} for image in (images[0], None)])
    assert batch.keys() == {"pixel_values", "labels"}
    assert batch["pixel_values"].shape == (2, 3, 48, 48)
    assert bool((batch["pixel_values"] == 7).all())


def test_examples_that_are_no_dictionaries_are_refused(images, image_processor):
    """As torchvision's data sets give them."""
    with pytest.raises(ValueError, match=r"Examples must be dictionaries .* but the first is a tuple; return"):
        ImageCollator(image_processor)([(images[0], 1)])


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


@pytest.mark.parametrize("size", [(3, 700), (701, 3), (1, 5000)])
def test_of_very_long_images_the_middle_is_what_it_would_be(size, image_processor, monkeypatch):
    """1 × 5,000 pixels would be scaled to 224 × 1,120,000 before the centre is cropped, and fill the memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, collator = Image.fromarray(pixels), ImageCollator(image_processor)
    quick = collator([{"image": image}])["pixel_values"]
    with monkeypatch.context() as patch:
        patch.setattr("hf_sharp_prompt.data.collator.LONGEST", 10**6)
        whole = collator([{"image": image}])["pixel_values"]
    assert (quick - whole).abs().max() < 0.05


def test_long_images_do_not_fill_the_memory(image_processor, monkeypatch):
    seen = []
    process = type(image_processor).__call__
    monkeypatch.setattr(
        type(image_processor),
        "__call__",
        lambda self, images, **kwargs: seen.extend(images) or process(self, images, **kwargs),
    )
    ImageCollator(image_processor)([{"image": Image.new("RGB", (1, 5000))}, {"image": Image.new("RGB", (64, 48))}])
    assert [image.size for image in seen] == [(1, 32), (64, 48)]
