"""ImageNet-LT, Places-LT and iNaturalist 2018 against a slow reading that goes step by step as LIFT's code does.

The steps are those of `datasets/lt_data.py`, `imagenet_lt.py`, `places_lt.py` and `inat2018.py` of
https://github.com/shijxcs/LIFT, whose lists GNM-PT's code has, too (`datasets/data_txt`).
"""

import json
import random

import pytest
from PIL import Image

from hf_sharp_prompt.data import load_image_dataset
from hf_sharp_prompt.data.loading import load_class_names


CLASSES = {
    "ImageNet_LT": (
        "n01440764 tench",
        "n01443537 goldfish",
        "n01484850 great white shark",
        "n04355933 sunglasses",
        "n04356056 sunglasses",
    ),
    "Places_LT": ("airfield airfield", "airplane_cabin airplane_cabin", "bazaar-indoor bazaar-indoor"),
}
CATEGORIES = ("Zea mays", "Acer rubrum", "Hermodice carunculata", "abies alba")
"""iNaturalist's names by id. They sort in another order."""


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def write_list(root, path, folders, first, seed, in_folder):
    """A list in chance order, of 3, 2, 1, … images of each class."""
    lines = [
        f"{in_folder}/{folder}/{first + number:05d}.jpg {label}"
        for label, folder in enumerate(folders)
        for number in range(max(3 - label, 1))
    ]
    random.Random(seed).shuffle(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    for line in lines:
        save_image(root / line.split()[0])


@pytest.fixture(params=[("ImageNet_LT", ""), ("ImageNet_LT", "data_txt"), ("Places_LT", "Places_LT")])
def long_tailed(request, tmp_path):
    """The images' folder, that of the lists, and how the lists begin."""
    prefix, below = request.param
    folders = [line.split()[0] for line in CLASSES[prefix]]
    write_list(tmp_path, tmp_path / below / f"{prefix}_train.txt", folders, 0, "train", "train")
    write_list(tmp_path, tmp_path / below / f"{prefix}_val.txt", folders, 100, "val", "train")
    write_list(tmp_path, tmp_path / below / f"{prefix}_test.txt", folders, 200, "test", "val")
    (tmp_path / below / "classnames.txt").write_text("\n".join(CLASSES[prefix]) + "\n")
    return tmp_path, tmp_path / below, prefix


def slowly_read(root, path):
    rows = []
    with open(path) as lines:
        for line in lines:
            rows.append((f"{root}/{line.split()[0]}", int(line.split()[1])))
    return rows


def rows(split):
    return list(zip((image["path"] for image in split["image"]), split["label"], strict=True))


def test_lists_give_the_images_their_order_labels_and_names(long_tailed):
    root, lists, prefix = long_tailed
    splits = load_image_dataset(str(root))
    for split, ending in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert rows(splits[split]) == slowly_read(root, lists / f"{prefix}_{ending}.txt")
    names = [" ".join(line.split(" ")[1:]).replace("_", " ") for line in CLASSES[prefix]]
    if prefix == "ImageNet_LT":
        names[3] = "sunglass"  # WordNet's name, since two classes of one name cannot be told apart
    assert splits["train"].features["label"].names == names == load_class_names(str(root))


def test_without_names_classes_are_called_as_their_folders(long_tailed):
    """Codes are refused as prompts, with the remedy; `{}` lets them pass where no prompts are made."""
    root, lists, prefix = long_tailed
    (lists / "classnames.txt").unlink()
    folders = [line.split()[0].replace("_", " ") for line in CLASSES[prefix]]
    if prefix == "ImageNet_LT":
        with pytest.raises(ValueError, match=r"5 of the 5 classes .* code or number.*class_names"):
            load_image_dataset(str(root))
    splits = load_image_dataset(str(root), class_names={})
    assert splits["test"].features["label"].names == folders


def test_a_named_set_is_read_below_the_data_root(tmp_path):
    root = tmp_path / "ImageNet_LT"
    for split, first in (("train", 0), ("test", 50)):
        write_list(root, root / f"ImageNet_LT_{split}.txt", ["n01440764", "n01443537"], first, split, split)
    (root / "classnames.txt").write_text("\n".join(CLASSES["ImageNet_LT"]))
    splits = load_image_dataset("imagenet_lt", data_root=tmp_path)
    assert rows(splits["train"]) == slowly_read(root, root / "ImageNet_LT_train.txt")


def slowly_number():
    """By LIFT's code: names sorted, and numbered so."""
    return {name: number for number, name in enumerate(sorted(set(CATEGORIES)))}


def save_categories(folder):
    listed = [{"id": number, "name": name, "kingdom": "Plantae"} for number, name in enumerate(CATEGORIES)]
    (folder / "categories.json").write_text(json.dumps(listed))


@pytest.fixture
def inaturalist(tmp_path):
    folders = [f"Plantae/{number}" for number in range(len(CATEGORIES))]
    for ending, first in (("train", 0), ("val", 50)):
        path = tmp_path / "iNaturalist18" / f"iNaturalist18_{ending}.txt"
        write_list(tmp_path, path, folders, first, ending, "train_val2018")
    save_categories(tmp_path / "iNaturalist18")
    return tmp_path


def test_classes_of_inaturalist_are_numbered_by_name(inaturalist):
    splits, number = load_image_dataset(str(inaturalist)), slowly_number()
    for split, ending in (("train", "train"), ("test", "val")):
        slow = slowly_read(inaturalist, inaturalist / "iNaturalist18" / f"iNaturalist18_{ending}.txt")
        assert rows(splits[split]) == [(path, number[CATEGORIES[label]]) for path, label in slow]
    assert splits["train"].features["label"].names == list(number) == load_class_names(str(inaturalist))


@pytest.mark.parametrize("named", [True, False])
def test_the_json_files_of_inaturalist_say_the_same(inaturalist, tmp_path_factory, named):
    """With `categories.json`, or with names in the files themselves."""
    root = tmp_path_factory.mktemp("json")
    (root / "train_val2018").symlink_to(inaturalist / "train_val2018")
    slow = {}
    for split, ending in (("train", "train"), ("test", "val")):
        slow[split] = slowly_read(root, inaturalist / "iNaturalist18" / f"iNaturalist18_{ending}.txt")
        images = [{"id": 7 * k, "file_name": path[len(f"{root}/") :]} for k, (path, _) in enumerate(slow[split])]
        annotations = [{"id": k, "image_id": 7 * k, "category_id": label} for k, (_, label) in enumerate(slow[split])]
        random.Random(0).shuffle(annotations)
        names = [{"id": k, "name": str(k) if named else name} for k, name in enumerate(CATEGORIES)]
        listed = {"images": images, "annotations": annotations, "categories": names}
        (root / f"{ending}2018.json").write_text(json.dumps(listed))
    if named:
        save_categories(root)
    splits, number = load_image_dataset(str(root)), slowly_number()
    for split, items in slow.items():
        assert rows(splits[split]) == [(path, number[CATEGORIES[label]]) for path, label in items]
        assert splits[split].features["label"].names == list(number)


class TestErrors:
    def test_a_list_or_an_image_that_is_missing(self, long_tailed):
        root, lists, prefix = long_tailed
        listed = slowly_read(root, lists / f"{prefix}_test.txt")
        path, images = listed[0][0], len(listed)
        (root / path).unlink()
        with pytest.raises(ValueError, match=rf"1 of the {images} images of .* that {prefix}_test.txt lists .*{path}"):
            load_image_dataset(str(root))
        (lists / f"{prefix}_test.txt").unlink()
        with pytest.raises(ValueError, match=rf"has no {prefix}_test.txt; it was looked for at .* It is at https"):
            load_image_dataset(str(root))

    @pytest.mark.parametrize("line", ["a.jpg", "a.jpg x", "a.jpg -1", "3"])
    def test_a_line_that_is_not_a_path_and_a_label(self, long_tailed, line):
        root, lists, prefix = long_tailed
        (lists / f"{prefix}_train.txt").write_text(f"{slow_first(root, lists, prefix)}\n{line}\n")
        with pytest.raises(ValueError, match=r"Line 2 of .*_train.txt must be a path, a space and a label, got"):
            load_image_dataset(str(root))

    def test_a_label_beyond_the_names(self, long_tailed):
        root, lists, prefix = long_tailed
        (lists / "classnames.txt").write_text("\n".join(CLASSES[prefix][:2]))
        with pytest.raises(ValueError, match=r"The train list of .* has a label [24], but only 2 classes have names"):
            load_image_dataset(str(root))

    def test_annotations_of_another_form(self, tmp_path):
        (tmp_path / "train2018.json").write_text('{"images": [{"id": 1}]}')
        with pytest.raises(ValueError, match=r"train2018.json is no file of iNaturalist's annotations"):
            load_image_dataset(str(tmp_path))

    def test_no_test_annotations(self, tmp_path):
        (tmp_path / "train2018.json").write_text('{"images": [], "annotations": [], "categories": []}')
        with pytest.raises(ValueError, match=r"has no val2018.json; it was looked for at"):
            load_image_dataset(str(tmp_path))


def slow_first(root, lists, prefix):
    path, label = slowly_read(root, lists / f"{prefix}_train.txt")[0]
    return f"{path[len(f'{root}/') :]} {label}"
