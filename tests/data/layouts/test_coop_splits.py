"""CoOp's folders against a slow reading that goes step by step as its code does.

The steps are those of `datasets/oxford_pets.py` (`read_split`, `subsample_classes`), `datasets/fgvc_aircraft.py` and
`trainers/coop.py` of https://github.com/KaiyangZhou/CoOp, and of `generate_fewshot_dataset` and `get_lab2cname` in
`dassl/data/datasets/base_dataset.py` of https://github.com/KaiyangZhou/Dassl.pytorch.
"""

import json
import math
import pickle
import random
from typing import NamedTuple

import pytest
from PIL import Image

from hf_sharp_prompt.data import base_to_novel, few_shot, load_image_dataset, template_of
from hf_sharp_prompt.data.layouts.coop import SPLIT_FOLDERS, warn_of_pickles
from hf_sharp_prompt.data.loading import load_class_names


class Datum(NamedTuple):
    path: str
    label: int
    name: str


FOLDERS = [
    ("caltech-101", "101_ObjectCategories", "Caltech101", ["face", "leopard", "accordion", "wild_cat"]),
    ("dtd", "images", "DescribableTextures", ["banded", "polka-dotted", "zigzagged"]),
    ("eurosat", "2750", "EuroSAT", ["Annual Crop Land", "Forest", "Highway or Road", "Sea or Lake", "River"]),
    ("food-101", "images", "Food101", ["apple_pie", "baby_back_ribs", "waffles"]),
    ("oxford_flowers", "jpg", "OxfordFlowers", ["pink primrose", "hard-leaved pocket orchid", "bird of paradise"]),
    ("oxford_pets", "images", "OxfordPets", ["abyssinian", "american_bulldog", "saint_bernard", "Sphynx", "pug"]),
    ("stanford_cars", "", "StanfordCars", ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"]),
    ("sun397", "SUN397", "SUN397", ["abbey", "outdoor apartment_building", "indoor apse"]),
    ("ucf101", "UCF-101-midframes", "UCF101", ["Apply_Eye_Makeup", "Yo_Yo", "Tai_Chi"]),
]


@pytest.fixture(params=FOLDERS, ids=[folder for folder, *_ in FOLDERS])
def data_set(request, tmp_path):
    """A data set's folder with images in an order that no sorting gives, and of each class another number."""
    folder, images, title, names = request.param
    chance = random.Random(folder)
    root = tmp_path / folder
    listed = {}
    for split, most in (("train", 5), ("val", 3), ("test", 2)):
        rows = [
            (f"{chance.choice(['a', 'B', 'c/d'])}/{split}_{name}_{number}.jpg", label, name)
            for label, name in enumerate(names)
            for number in range(8, 8 + max(most - label % 3, 1))  # 10 sorts before 9
        ]
        chance.shuffle(rows)
        listed[split] = rows
    for path, _, _ in (row for rows in listed.values() for row in rows):
        save_image(root / images / path)
    split_file = root / f"split_zhou_{title}.json"
    split_file.write_text(json.dumps(listed))
    return root, root / images, split_file


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 100, 0)).save(path)


def slowly_read(split_file, images):
    with open(split_file) as file:
        listed = json.load(file)
    return {
        ours: [Datum(f"{images}/{path}", int(label), name) for path, label, name in listed[theirs]]
        for ours, theirs in (("train", "train"), ("validation", "val"), ("test", "test"))
    }


def lines_of(path):
    with open(path) as file:
        return file.readlines()


def slowly_draw(items, shots, stream):
    by_label = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    drawn = []
    for members in by_label.values():
        drawn += stream.sample(members, shots) if len(members) >= shots else members
    return drawn


def slowly_halve(splits, half):
    labels = sorted({item.label for item in splits["train"]})
    middle = math.ceil(len(labels) / 2)
    selected = labels[:middle] if half == "base" else labels[middle:]
    new_label = {label: number for number, label in enumerate(selected)}
    return {
        split: [Datum(item.path, new_label[item.label], item.name) for item in items if item.label in selected]
        for split, items in splits.items()
    }


def class_names(items):
    """As the trainers write them into prompts."""
    name_of = {item.label: item.name for item in items}
    return [name_of[label].replace("_", " ") for label in sorted(name_of)]


def check_same(ours, slow):
    """The same splits, of the same images in the same order, with the same labels and names."""
    assert {*ours} == {*slow}
    for split, items in slow.items():
        assert [image["path"] for image in ours[split]["image"]] == [item.path for item in items]
        assert ours[split]["label"] == [item.label for item in items]
        assert ours[split].features["label"].names == class_names(slow["train"])


def test_splits_order_labels_and_names_are_those_of_the_split_file(data_set):
    root, images, split_file = data_set
    check_same(load_image_dataset(str(root)), slowly_read(split_file, images))


def test_a_name_and_a_data_root_are_the_folder(data_set):
    """`--dataset oxford_pets --data_root DIR` is `--dataset DIR/oxford_pets`."""
    root, images, split_file = data_set
    name = {"caltech-101": "caltech101", "food-101": "food101"}.get(root.name, root.name)
    check_same(load_image_dataset(name, data_root=root.parent), slowly_read(split_file, images))
    assert load_class_names(name, data_root=root.parent) == load_class_names(str(root))
    assert "{}" in template_of(name, data_root=root.parent)
    assert template_of(name, data_root=root.parent) == template_of(str(root))


@pytest.mark.parametrize("shots", [1, 2, 16])
def test_few_shot_samples_of_both_halves_are_the_very_ones(data_set, shots):
    """All images of a class are taken that has fewer than shots."""
    root, images, split_file = data_set
    slow = slowly_read(split_file, images)
    stream = random.Random(7)
    slow["train"] = slowly_draw(slow["train"], shots, stream)
    slow["validation"] = slowly_draw(slow["validation"], min(shots, 4), stream)
    base, novel = base_to_novel(few_shot(load_image_dataset(str(root)), shots, seed=7))
    check_same(base, slowly_halve(slow, "base"))
    check_same(novel, slowly_halve(slow, "new"))


def test_stored_few_shot_samples_are_not_unpickled_and_this_is_said_once(tmp_path, caplog):
    """A pickle runs any code when it is read."""
    root = small_pets(tmp_path)
    (root / "split_fewshot").mkdir()
    trap = tmp_path / "trap"
    (root / "split_fewshot" / "shot_1-seed_1.pkl").write_bytes(pickle.dumps(Trap(str(trap))))
    warn_of_pickles.cache_clear()
    for _ in range(2):
        load_image_dataset(str(root))
    assert not trap.exists()
    assert sum("1 pickle files of CoOp's code" in record.message for record in caplog.records) == 1


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def small_pets(tmp_path, rows=(("a.jpg", 0, "cat"), ("b.jpg", 1, "dog"))):
    root = tmp_path / "oxford_pets"
    listed = {split: [(f"{split}_{path}", label, name) for path, label, name in rows] for split in SPLITS}
    for row in (row for rows in listed.values() for row in rows):
        save_image(root / "images" / row[0])
    (root / "split_zhou_OxfordPets.json").write_text(json.dumps(listed))
    return root


SPLITS = ("train", "val", "test")


class TestErrors:
    @pytest.mark.parametrize("folder", SPLIT_FOLDERS)
    def test_no_split_file(self, tmp_path, folder):
        """CoOp's code would draw a split by chance, and the numbers would be nobody else's."""
        root, files = tmp_path / folder, SPLIT_FOLDERS[folder]
        save_image(root / (files.images or "cars_train") / "x" / "1.jpg")
        with pytest.raises(
            ValueError, match=rf"has no {files.split_file}; it was looked for at .*DATASETS.md"
        ) as raised:
            load_image_dataset(str(root))
        assert str(root / files.split_file) in str(raised.value)

    def test_missing_images(self, tmp_path):
        root = small_pets(tmp_path)
        (root / "images" / "test_b.jpg").unlink()
        with pytest.raises(
            ValueError, match=r"1 of the 6 images .* split_zhou_OxfordPets.json lists are not"
        ) as raised:
            load_image_dataset(str(root))
        assert str(root / "images" / "test_b.jpg") in str(raised.value)

    def test_no_folder_below_the_data_root(self, tmp_path):
        with pytest.raises(ValueError, match=r"caltech101 is not in .*; it was looked for at .*caltech-101"):
            load_image_dataset("caltech101", data_root=tmp_path)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (
                [("a.jpg", 0, "cat"), ("b.jpg", 0, "dog"), ("c.jpg", 1, "cow")],
                "label 0 has two names, 'cat' and 'dog'",
            ),
            ([("a.jpg", 0, "cat"), ("b.jpg", 2, "dog")], "without a gap, but no image has label 1"),
            ([("a.jpg", -1, "cat"), ("b.jpg", 0, "dog")], "without a gap, but there is a label -1"),
        ],
    )
    def test_labels_that_name_no_classes(self, tmp_path, rows, message):
        with pytest.raises(ValueError, match=message):
            load_image_dataset(str(small_pets(tmp_path, rows)))

    @pytest.mark.parametrize("content", ["{", '{"train": []}', '{"train": [1], "val": [], "test": []}', "[]"])
    def test_a_split_file_of_another_form(self, tmp_path, content):
        root = small_pets(tmp_path)
        (root / "split_zhou_OxfordPets.json").write_text(content)
        with pytest.raises(ValueError, match=r"is no split file of CoOp: it must map .* Download it again"):
            load_image_dataset(str(root))


class TestAircraft:
    NAMES = ["707-320", "Boeing 717", "A300B4", "F-16A/B", "Cessna 172"]

    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "fgvc_aircraft"
        chance = random.Random(3)
        (root / "images").mkdir(parents=True)
        (root / "variants.txt").write_text("\n".join(self.NAMES) + "\n")
        for first, split in ((34309, "train"), (2000000, "val"), (3000000, "test")):
            lines = [f"{first + number:07d} {chance.choice(self.NAMES)}" for number in range(12)]
            lines += [f"{first + 50 + number:07d} {name}" for number, name in enumerate(self.NAMES)]
            (root / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
            for line in lines:
                save_image(root / "images" / f"{line.split()[0]}.jpg")
        return root

    def slowly_read(self, root):
        label_of = {name.strip(): label for label, name in enumerate(lines_of(root / "variants.txt"))}
        splits = {}
        for ours, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
            splits[ours] = []
            for line in lines_of(root / f"images_variant_{theirs}.txt"):
                number, *words = line.strip().split(" ")
                name = " ".join(words)
                splits[ours].append(Datum(f"{root}/images/{number}.jpg", label_of[name], name))
        return splits

    def test_splits_order_labels_and_names(self, root):
        check_same(load_image_dataset(str(root)), self.slowly_read(root))
        check_same(load_image_dataset("fgvc_aircraft", data_root=root.parent), self.slowly_read(root))

    def test_few_shot_samples(self, root):
        slow, stream = self.slowly_read(root), random.Random(2)
        slow["train"], slow["validation"] = (slowly_draw(slow[s], 2, stream) for s in ("train", "validation"))
        base, novel = base_to_novel(few_shot(load_image_dataset(str(root)), 2, seed=2))
        check_same(base, slowly_halve(slow, "base"))
        check_same(novel, slowly_halve(slow, "new"))

    def test_an_image_or_list_that_is_missing(self, root):
        (root / "images" / "3000050.jpg").unlink()
        with pytest.raises(ValueError, match=r"images_variant_test.txt lists are not there.*3000050.jpg"):
            load_image_dataset(str(root))
        (root / "images_variant_val.txt").unlink()
        with pytest.raises(ValueError, match=r"has no images_variant_val.txt; it was looked for at"):
            load_image_dataset(str(root))
        (root / "variants.txt").unlink()
        with pytest.raises(ValueError, match=r"has no variants.txt; it was looked for at"):
            load_image_dataset(str(root))
