"""Features computed once are those that the model would compute in every step."""

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from PIL import Image
from torch.utils.data import DataLoader

from hf_sharp_prompt import ImageEncoder
from hf_sharp_prompt.data import ImageCollator, ImageFeatures


@pytest.fixture
def dataset(images) -> Dataset:
    features = Features({"image": datasets.Image(decode=False), "label": ClassLabel(names=["ant", "bee"])})
    return Dataset.from_dict({"image": images, "label": [1, 0, 0, 1]}, features=features)


@pytest.fixture
def encode(clip):
    return lambda pixel_values: clip.get_image_features(pixel_values).pooler_output


def test_features_equal_direct_encoding(dataset, encode, image_processor, pixel_values):
    """Otherwise training on features is not training on the images."""
    features = ImageFeatures.compute(dataset, encode, ImageCollator(image_processor), batch_size=3)
    with torch.no_grad():
        expected = encode(pixel_values)
    assert len(features) == 4
    assert features.class_names == ["ant", "bee"]
    for index, label in enumerate([1, 0, 0, 1]):
        item = features[index]
        torch.testing.assert_close(item["image_features"], expected[index], rtol=0, atol=1e-6)
        assert int(item["labels"]) == label
    assert not features.features.requires_grad


def test_batches_of_features_are_what_the_model_takes(dataset, encode, image_processor):
    """Otherwise the Trainer's default collator cannot stack them."""
    features = ImageFeatures.compute(dataset, encode, ImageCollator(image_processor))
    (batch,) = DataLoader(features, batch_size=4, collate_fn=ImageCollator(image_processor))
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {"image_features": (4, 24), "labels": (4,)}


def test_every_view_is_an_augmentation_of_its_own_and_all_are_drawn(dataset, encode, image_processor):
    """Otherwise caching features takes the augmentation away."""
    shades = [Image.new("RGB", (48, 48), (20 * number, 0, 0)) for number in range(12)]
    rest = iter(shades)
    collator = ImageCollator(image_processor, augment=lambda image: next(rest))
    features = ImageFeatures.compute(dataset, encode, collator, views=3)
    with torch.no_grad():
        expected = encode(image_processor(shades, return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(features.features, expected.view(3, 4, 24).transpose(0, 1), rtol=0, atol=1e-6)
    drawn = {tuple(features[2]["image_features"].tolist()) for _ in range(50)}
    assert drawn == {tuple(view.tolist()) for view in features.features[2]}
    assert len(drawn) == 3


def test_columns_of_the_hub_are_found(images, encode, image_processor, pixel_values):
    """CIFAR has `img` and `label`, others `labels`; batches find them, so features do."""
    features = Features({"img": datasets.Image(), "labels": ClassLabel(names=["ant", "bee"])})
    dataset = Dataset.from_dict({"img": images, "labels": [1, 0, 0, 1]}, features=features)
    made = ImageFeatures.compute(dataset, encode, ImageCollator(image_processor))
    assert made.labels.tolist() == [1, 0, 0, 1]
    with torch.no_grad():
        torch.testing.assert_close(made.features[:, 0], encode(pixel_values), rtol=0, atol=1e-6)


@pytest.mark.parametrize("label", [-1, None])
def test_images_without_a_label_are_refused(images, encode, image_processor, label):
    """Otherwise they are trained on as the last class, or end in a TypeError after an hour of encoding."""
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=["ant", "bee"])})
    dataset = Dataset.from_dict({"image": images, "label": [1, label, 0, label]}, features=features)
    with pytest.raises(ValueError, match="2 of 4 samples have no label in column 'label'"):
        ImageFeatures.compute(dataset, pytest.fail, ImageCollator(image_processor))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.zeros(2, 4), [0, 1], r"floats of images × views × width, .* of shape \(2, 4\) and 2 labels"),
        (torch.zeros(2, 1, 4), [0], r"shape \(2, 1, 4\) and 1 labels"),
        (torch.zeros(2, 1, 4, dtype=torch.long), [0, 1], r"got torch.int64"),
        (
            torch.zeros(2, 1, 4),
            [0, 2],
            "1 of 2 samples have a label in the labels of the features beyond the 2 classes",
        ),
        (torch.zeros(2, 1, 4), [0, -1], "1 of 2 samples have no label in the labels of the features"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(features, labels, message):
    """Otherwise a step in the middle of training fails, on a GPU without a reason."""
    with pytest.raises(ValueError, match=message):
        ImageFeatures(features, torch.tensor(labels), ["ant", "bee"])


def test_a_data_set_without_images_is_refused(encode, image_processor, clip, tmp_path):
    """Otherwise a KeyError is all that one gets."""
    features = Features({"text": datasets.Value("string"), "label": ClassLabel(names=["ant", "bee"])})
    dataset = Dataset.from_dict({"text": ["x"], "label": [1]}, features=features)
    with pytest.raises(ValueError, match=r"no column of images to encode; there are text \(Value\), label"):
        ImageFeatures.compute(dataset, encode, ImageCollator(image_processor))
    with pytest.raises(ValueError, match="no column of images to encode"):
        ImageFeatures.cached(dataset, ImageEncoder(clip), ImageCollator(image_processor), cache_dir=tmp_path)
