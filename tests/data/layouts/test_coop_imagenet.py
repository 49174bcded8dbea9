"""CoOp's folders of ImageNet and its variants against a slow reading that goes step by step as its code does.

The steps are those of `datasets/imagenet.py`, `imagenetv2.py`, `imagenet_sketch.py`, `imagenet_a.py` and
`imagenet_r.py` of https://github.com/KaiyangZhou/CoOp, with every listing of a folder sorted.
"""

import os
import random
import time

import pytest
from PIL import Image

from hf_sharp_prompt.data import few_shot, load_image_dataset, template_of
from hf_sharp_prompt.data.layouts.coop_imagenet import CoOpImageNet
from hf_sharp_prompt.data.layouts.image_files import Items, image_files


CLASSNAMES = """\
n01440764 tench
n01443537 goldfish
n01484850 great white shark
n02007558 flamingo
n04355933 sunglasses
n04356056 sunglasses
"""

NAMES = ["tench", "goldfish", "great white shark", "flamingo", "sunglass", "sunglasses"]
"""The name of the fifth class is WordNet's, since no classifier can tell two classes of one name apart."""

TESTED = {
    "imagenetv2": "imagenetv2-matched-frequency-format-val",
    "imagenet-sketch": "images",
    "imagenet-adversarial": "imagenet-a",
    "imagenet-rendition": "imagenet-r",
}


def save_images(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name, format="PNG")


@pytest.fixture
def imagenet(tmp_path):
    """Images that sort differently by case and number, and hidden files."""
    root = tmp_path / "imagenet"
    for number, line in enumerate(CLASSNAMES.splitlines()):
        wnid = line.split()[0]
        save_images(root / "images" / "train" / wnid, f"{wnid}_10.JPEG", f"{wnid}_9.JPEG", f"{wnid.upper()}_1.JPEG")
        save_images(
            root / "images" / "val" / wnid, *[f"ILSVRC2012_val_{k:08d}.JPEG" for k in range(number, number + 2)]
        )
        (root / "images" / "train" / wnid / ".DS_Store").write_text("")
    (root / "images" / "val" / ".cache").mkdir()
    (root / "classnames.txt").write_text(CLASSNAMES)
    return root


def slowly_read(folder, numbered=False):
    """Path, label and name as it is in `classnames.txt`."""
    name_of = {}
    for line in CLASSNAMES.splitlines():
        wnid, *words = line.strip().split(" ")
        name_of[wnid] = " ".join(words)
    found = sorted(name for name in os.listdir(folder) if not name.startswith(".") and name != "README.txt")
    folders = [str(label) for label in range(len(name_of))] if numbered else found
    wnids = list(name_of) if numbered else found
    return [
        (f"{folder}/{name}/{image}", label, name_of[wnid])
        for label, (name, wnid) in enumerate(zip(folders, wnids, strict=True))
        for image in sorted(os.listdir(f"{folder}/{name}"))
        if not image.startswith(".")
    ]


def rows(split):
    return list(zip((image["path"] for image in split["image"]), split["label"], strict=True))


def test_imagenet_is_tested_on_its_validation_images(imagenet):
    splits = load_image_dataset(str(imagenet))
    assert {*splits} == {"train", "test"}
    for split, folder in (("train", "train"), ("test", "val")):
        assert rows(splits[split]) == [row[:2] for row in slowly_read(imagenet / "images" / folder)]
        assert splits[split].features["label"].names == NAMES
    assert rows(load_image_dataset("imagenet", data_root=imagenet.parent)["train"]) == rows(splits["train"])


def test_few_shot_samples_are_those_of_a_sorted_listing(imagenet):
    stream, drawn = random.Random(1), []
    slow = slowly_read(imagenet / "images" / "train")
    for label in range(len(NAMES)):
        drawn += stream.sample([row[:2] for row in slow if row[1] == label], 2)
    assert rows(few_shot(load_image_dataset(str(imagenet)), 2, seed=1)["train"]) == drawn


@pytest.mark.parametrize("folder", TESTED)
def test_variants_have_the_classes_that_are_there_and_a_test_split_alone(tmp_path, imagenet, folder):
    """ImageNet-A and -R have 200 of the classes; a model is asked only for these."""
    numbered, images = folder == "imagenetv2", tmp_path / folder / TESTED[folder]
    wnids = [line.split()[0] for line in CLASSNAMES.splitlines()]
    for label, wnid in enumerate(wnids):
        if numbered or label % 2:
            save_images(images / (str(label) if numbered else wnid), "b.jpeg", "A.jpeg", "10.jpeg", "9.jpeg")
    if folder in ("imagenet-adversarial", "imagenet-rendition"):
        (images / "README.txt").write_text("Read me.")
    (tmp_path / folder / "classnames.txt").write_text(CLASSNAMES)
    splits = load_image_dataset(str(tmp_path / folder))
    slow = slowly_read(images, numbered)
    assert {*splits} == {"test"}
    assert rows(splits["test"]) == [row[:2] for row in slow]
    names = NAMES if numbered else ["goldfish", "flamingo", "sunglasses"]
    assert splits["test"].features["label"].names == names
    assert template_of(str(tmp_path / folder)) == "a photo of a {}."


def test_the_names_may_be_in_the_folder_of_imagenet_beside(tmp_path, imagenet):
    save_images(tmp_path / "imagenet-sketch" / "images" / "n01440764", "1.jpg")
    save_images(tmp_path / "imagenet-sketch" / "images" / "n02007558", "1.jpg")
    splits = load_image_dataset("imagenet_sketch", data_root=tmp_path)
    assert splits["test"].features["label"].names == ["tench", "flamingo"]


class TestErrors:
    def test_no_names(self, imagenet):
        (imagenet / "classnames.txt").unlink()
        with pytest.raises(
            ValueError, match=r"has no classnames.txt; it was looked for at .*classnames.txt. Download"
        ):
            load_image_dataset(str(imagenet))

    def test_a_folder_without_a_name(self, imagenet):
        for split in ("train", "val"):
            save_images(imagenet / "images" / split / "n09999999", "1.JPEG")
        with pytest.raises(ValueError, match=r"has no name for 1 of the folders of classes, such as n09999999"):
            load_image_dataset(str(imagenet))

    def test_classes_in_one_split_alone(self, imagenet):
        save_images(imagenet / "images" / "train" / "n09999999", "1.JPEG")
        with pytest.raises(ValueError, match=r"n09999999 is in only one of images/train and images/val"):
            load_image_dataset(str(imagenet))

    def test_no_validation_images(self, imagenet):
        (imagenet / "images" / "val").rename(imagenet / "val")
        with pytest.raises(ValueError, match=r"has no val; it was looked for at .*images/val. .*DATASETS.md"):
            load_image_dataset(str(imagenet))

    def test_a_numbered_folder_that_is_missing(self, tmp_path):
        save_images(tmp_path / "imagenetv2" / TESTED["imagenetv2"] / "0", "1.jpeg")
        (tmp_path / "imagenetv2" / "classnames.txt").write_text(CLASSNAMES)
        with pytest.raises(ValueError, match=r"has no 1; it was looked for at .*/1. classnames.txt has 6 classes"):
            load_image_dataset(str(tmp_path / "imagenetv2"))


def test_a_million_paths_are_columns_of_arrow():
    """ImageNet has 1.28 million images; an object of Python for each would take minutes."""
    count = 200_000
    items = Items([f"/data/imagenet/images/train/n01440764/{number}.JPEG" for number in range(count)], [0] * count)
    start = time.process_time()
    splits = image_files({"train": items}, ["tench", "goldfish"], "imagenet")
    assert len(splits["train"]) == count
    assert splits["train"].data.nbytes < 100 * count
    assert time.process_time() - start < 2


def test_other_folders_called_imagenet_are_read_as_what_they_are(tmp_path):
    save_images(tmp_path / "imagenet" / "train" / "cat", "1.jpg")
    assert not CoOpImageNet().recognises(str(tmp_path / "imagenet"))
