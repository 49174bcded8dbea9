"""Whatever a user names as data becomes splits with an `image` and a `label` column, or a message that helps."""

from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from hf_sharp_prompt.data import canonical_name, load_image_dataset
from hf_sharp_prompt.demo import TASKS, tasks


def image(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, shade, shade))


def make_folder(path: Path, classes: list[str] = ("blue_heart", "red_star"), per_class: int = 4) -> None:
    """One folder of images per class."""
    for name in classes:
        (path / name).mkdir(parents=True)
        for number in range(per_class):
            image(number).save(path / name / f"{number}.png")


def save(path: Path, features: dict[str, object], **columns: list) -> str:
    """A data set of one split on disk, as `save_to_disk` makes it."""
    Dataset.from_dict(columns, features=Features(features)).save_to_disk(str(path))
    return str(path)


def assert_well_formed(splits: DatasetDict, names: list[str], **sizes: int) -> None:
    assert {name: len(split) for name, split in splits.items()} == sizes
    for split in splits.values():
        assert split.features == Features({"image": datasets.Image(decode=False), "label": ClassLabel(names=names)})


def test_a_task_of_the_demo(monkeypatch):
    """Otherwise the examples do not run without a network."""
    for split in tasks.IMAGES_PER_CLASS:
        monkeypatch.setitem(tasks.IMAGES_PER_CLASS, split, 1)
    name, task = next(iter(TASKS.items()))
    number = len(task.classes)
    assert_well_formed(load_image_dataset(name), list(task.classes), train=number, validation=number, test=number)


def test_a_folder_with_a_test_split(tmp_path):
    """Otherwise one's own images cannot be used; underscores in folders' names are spaces in prompts."""
    make_folder(tmp_path / "train")
    make_folder(tmp_path / "test", per_class=2)
    splits = load_image_dataset(str(tmp_path))
    assert_well_formed(splits, ["blue heart", "red star"], train=8, test=4)
    by_label = {0: "blue_heart", 1: "red_star"}
    for row in splits["train"]:
        assert Path(row["image"]["path"]).parent.name == by_label[row["label"]]


def test_a_folder_without_splits_is_split_by_class(tmp_path, caplog):
    """Otherwise a plain folder of classes has no images to test on, or tests on those it trained on."""
    make_folder(tmp_path, ["ant", "bee", "cat", "dog"], per_class=10)
    splits = load_image_dataset(str(tmp_path))
    assert_well_formed(splits, ["ant", "bee", "cat", "dog"], train=28, test=12)
    assert sorted(splits["test"]["label"]) == [label for label in range(4) for _ in range(3)]
    paths = [{row["image"]["path"] for row in split} for split in splits.values()]
    assert len(set.union(*paths)) == 40
    assert "no test split; 30 % of its training split is held out, stratified by class" in caplog.text
    again = load_image_dataset(str(tmp_path))
    assert [row["image"]["path"] for row in again["test"]] == [row["image"]["path"] for row in splits["test"]]


def test_a_validation_split_stands_in_for_the_test_split(tmp_path, caplog):
    """Otherwise ImageNet's layout loses training images."""
    make_folder(tmp_path / "train")
    make_folder(tmp_path / "validation", per_class=3)
    assert_well_formed(load_image_dataset(str(tmp_path)), ["blue heart", "red star"], train=8, test=6)
    assert "no test split; its validation split is used for testing" in caplog.text


def test_all_three_splits_are_kept(tmp_path):
    """Otherwise validation images are used for testing although there are others."""
    for number, split in enumerate(("train", "validation", "test"), start=1):
        make_folder(tmp_path / split, per_class=number)
    splits = load_image_dataset(str(tmp_path))
    assert_well_formed(splits, ["blue heart", "red star"], train=2, validation=4, test=6)


def test_a_data_set_saved_to_disk(tmp_path, monkeypatch):
    """Otherwise data prepared with `datasets` has to be exported first."""
    features = Features({"img": datasets.Image(), "fine": ClassLabel(names=["a_b", "c"]), "note": Value("string")})
    rows = {"img": [image()] * 4, "fine": [0, 1, 1, 0], "note": ["x"] * 4}
    split = Dataset.from_dict(rows, features=features)
    DatasetDict(train=split, test=split).save_to_disk(str(tmp_path / "both"))
    splits = load_image_dataset(str(tmp_path / "both"))
    assert_well_formed(splits, ["a b", "c"], train=4, test=4)
    assert list(splits["train"]["label"]) == [0, 1, 1, 0]

    split.save_to_disk(str(tmp_path / "one"))
    assert_well_formed(load_image_dataset(str(tmp_path / "one")), ["a b", "c"], train=2, test=2)

    monkeypatch.setenv("HOME", str(tmp_path))
    assert_well_formed(load_image_dataset("~/both"), ["a b", "c"], train=4, test=4)


def test_labels_that_are_strings_become_classes(tmp_path):
    """Otherwise CSV-made data sets need conversion; names are sorted over all splits, so that numbers agree."""
    features = Features({"image": datasets.Image(), "species": Value("string")})

    def make(labels: list[str]) -> Dataset:
        return Dataset.from_dict({"image": [image()] * len(labels), "species": labels}, features=features)

    DatasetDict(train=make(["dog", "cat_fish"]), test=make(["dog", "ant"])).save_to_disk(str(tmp_path))
    splits = load_image_dataset(str(tmp_path), label_column="species")
    assert_well_formed(splits, ["ant", "cat fish", "dog"], train=2, test=2)
    assert (list(splits["train"]["label"]), list(splits["test"]["label"])) == ([2, 1], [2, 0])


def test_columns_are_chosen_by_name(tmp_path):
    """Otherwise data sets with several images or labels per row cannot be used."""
    names = ClassLabel(names=["a", "b"]), ClassLabel(names=["c", "d"])
    features = {"left": datasets.Image(), "right": datasets.Image(), "coarse": names[0], "fine": names[1]}
    rows = {"left": [image(1)] * 4, "right": [image(2)] * 4, "coarse": [0, 0, 1, 1], "fine": [0, 1, 0, 1]}
    path = save(tmp_path, features, **rows)
    splits = load_image_dataset(path, image_column="right", label_column="fine")
    assert_well_formed(splits, ["c", "d"], train=2, test=2)
    decoded = splits["train"].cast_column("image", datasets.Image())[0]["image"]
    assert decoded.getpixel((0, 0)) == (2, 2, 2)


@pytest.mark.parametrize("name", ["label", "labels"])
def test_the_usual_names_win_over_other_labels(tmp_path, name):
    """As in batches, which see values and no features: otherwise training and counting use other labels."""
    names = ClassLabel(names=["a", "b"]), ClassLabel(names=["c", "d"])
    features = {"image": datasets.Image(), "mask": datasets.Image(), name: names[0], "coarse": names[1]}
    rows = {"image": [image(1)] * 4, "mask": [image(2)] * 4, name: [0, 1, 1, 0], "coarse": [0, 1, 0, 1]}
    splits = load_image_dataset(save(tmp_path, features, **rows))
    assert splits["train"].features["label"].names == ["a", "b"]


def test_a_split_without_labels_is_not_tested_on(tmp_path, caplog):
    """The Hub's test splits often have -1 for every image: the accuracy would be 0, or torch fails."""
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=["a", "b"])})

    def make(labels: list[int | None]) -> Dataset:
        return Dataset.from_dict({"image": [image()] * len(labels), "label": labels}, features=features)

    splits = DatasetDict(train=make([0, 1, None, -1, 1]), valid=make([1, 0, 1]), test=make([-1, -1]))
    splits.save_to_disk(str(tmp_path))
    loaded = load_image_dataset(str(tmp_path))
    assert_well_formed(loaded, ["a", "b"], train=3, test=3)
    assert list(loaded["train"]["label"]) == [0, 1, 1]
    for said in (
        f"2 of 5 images in the train split of {tmp_path} have no label and are left out",
        f"The test split of {tmp_path} has no labelled images and is left out",
        "no test split; its validation split is used for testing",
    ):
        assert said in caplog.text


def test_strings_may_be_missing_too(tmp_path, caplog):
    """A CSV with empty cells; None must not become a class."""
    features = {"image": datasets.Image(), "label": Value("string")}
    path = save(tmp_path, features, image=[image()] * 9, label=["a", None, "b"] * 3)
    assert_well_formed(load_image_dataset(path), ["a", "b"], train=4, test=2)
    assert "3 of 9 images in the train split" in caplog.text


def test_classes_without_training_images_are_said(tmp_path, caplog):
    """Otherwise prompts are learned for fewer classes than the table says."""
    features = {"image": datasets.Image(), "label": ClassLabel(names=["a", "b", "c", "d"])}
    load_image_dataset(save(tmp_path, features, image=[image()] * 8, label=[0, 2] * 4))
    assert f"2 of the 4 classes of {tmp_path} have no training images: b, d." in caplog.text


@pytest.mark.parametrize("written", ["pets", "pets/", "./pets", "pets//", "../here/pets", "~/pets", "{}/pets"])
def test_one_folder_has_one_name(tmp_path, monkeypatch, written):
    """Otherwise a trailing slash makes a finished study another one."""
    (tmp_path / "here" / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    assert canonical_name(written.format(tmp_path / "here")) == str(tmp_path / "here" / "pets")
    assert canonical_name("someone/birds/") == "someone/birds"
    assert canonical_name(next(iter(TASKS))) == next(iter(TASKS))


def test_a_folder_with_a_task_s_name_is_said_to_be_passed_over(tmp_path, monkeypatch, caplog):
    """Otherwise one trains on the demo instead of one's own images."""
    for split in tasks.IMAGES_PER_CLASS:
        monkeypatch.setitem(tasks.IMAGES_PER_CLASS, split, 1)
    name = next(iter(TASKS))
    make_folder(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    load_image_dataset(name)
    assert f"{name} is taken as the demo's task; for the folder of that name give ./{name}." in caplog.text
    assert load_image_dataset(f"./{name}")["train"].features["label"].names == ["blue heart", "red star"]


class TestErrors:
    """Otherwise the first-time user gets a KeyError, or a prompt for a class without a name."""

    IMAGE = {"image": datasets.Image()}

    @pytest.mark.parametrize(
        ("features", "message"),
        [
            ({"label": ClassLabel(names=["a", "b"]), "size": Value("int64")}, "no image column; .* image_column"),
            (
                {"image": datasets.Image(), "size": Value("int64")},
                r"no label column; .* label_column.* size \(Va",
            ),
            (
                {"x": datasets.Image(), "y": datasets.Image(), "label": ClassLabel(names=["a", "b"])},
                r"several image columns \(x, y\); name the one to use with image_column",
            ),
            (
                {"image": datasets.Image(), "x": ClassLabel(names=["a", "b"]), "y": ClassLabel(names=["a", "b"])},
                r"several label columns \(x, y\); name the one to use with label_column",
            ),
        ],
        ids=["no image", "no label", "several images", "several labels"],
    )
    def test_columns_that_cannot_be_found(self, tmp_path, features, message):
        columns = {name: [image() if isinstance(of, datasets.Image) else 0] for name, of in features.items()}
        with pytest.raises(ValueError, match=message) as raised:
            load_image_dataset(save(tmp_path, features, **columns))
        assert str(tmp_path) in str(raised.value)

    @pytest.mark.parametrize("column", ["image_column", "label_column"])
    def test_a_column_that_does_not_exist(self, tmp_path, column):
        path = save(tmp_path, {**self.IMAGE, "label": ClassLabel(names=["a", "b"])}, image=[image()], label=[0])
        with pytest.raises(ValueError, match=r"no column 'pets'; its columns are: image \(Image\), label \(Cl"):
            load_image_dataset(path, **{column: "pets"})

    @pytest.mark.parametrize(
        ("feature", "label", "message"),
        [
            (
                Value("int64"),
                3,
                "labels of .* are int64 numbers without names, and prompts need names; pass",
            ),
            (List(Value("int64")), [3], "labels of .* are of type List, .* or name a column of strings"),
            (ClassLabel(names=["only"]), 0, r"needs at least two classes, but .* has 1: \['only'\]"),
            (ClassLabel(names=["a", "_", "b"]), 0, r"classes \[1\] have no name; a prompt needs one"),
            (ClassLabel(names=["a", ""]), 0, r"classes \[1\] have no name"),
            (
                ClassLabel(names=["a", "b\x1b[2J"]),
                0,
                r"the name of class 'b\\x1b\[2J' has the control character '\\x1b'",
            ),
            (ClassLabel(names=["a", "b\u202eb"]), 0, r"has the control character '\\u202e'; rename the class"),
            (
                ClassLabel(names=["red_star", "red star", "b"]),
                0,
                r"several classes are named \['red star'\]; rename",
            ),
        ],
    )
    def test_labels_without_proper_names(self, tmp_path, feature, label, message):
        path = save(tmp_path, {**self.IMAGE, "label": feature}, image=[image()], label=[label])
        with pytest.raises(ValueError, match=message) as raised:
            load_image_dataset(path, label_column="label")
        assert str(tmp_path) in str(raised.value)

    def test_no_training_split(self, tmp_path):
        make_folder(tmp_path / "val")
        with pytest.raises(ValueError, match="no split named 'train'; it has validation"):
            load_image_dataset(str(tmp_path))

    @pytest.mark.parametrize(("scarce", "others"), [(1, 9), (2, 2)])
    def test_too_few_images_to_hold_some_out(self, tmp_path, scarce, others):
        make_folder(tmp_path, ["ant", "bee", "dog"], per_class=others)
        make_folder(tmp_path, ["cat_fish"], per_class=scarce)
        message = r"no test split, and too few images .* for 4 classes, of which '.*' has [12]. Add images .* or a"
        with pytest.raises(ValueError, match=message) as raised:
            load_image_dataset(str(tmp_path))
        assert scarce > 1 or "'cat fish' has 1" in str(raised.value)

    def test_splits_that_number_their_classes_differently(self, tmp_path):
        splits = DatasetDict()
        for split, names in (("train", ["ant", "bee", "cat"]), ("test", ["bee", "cat"])):
            features = Features({**self.IMAGE, "label": ClassLabel(names=names)})
            splits[split] = Dataset.from_dict({"image": [image()] * 2, "label": [0, 1]}, features=features)
        splits.save_to_disk(str(tmp_path))
        with pytest.raises(ValueError, match="labels of the test split do not name the same classes in the same"):
            load_image_dataset(str(tmp_path))

    def test_images_that_are_missing(self, tmp_path):
        features = {**self.IMAGE, "label": ClassLabel(names=["a", "b"])}
        save(tmp_path, features, image=[image(), image(), None], label=[0, 1, 0])
        with pytest.raises(ValueError, match=r"1 of 3 images in the train split of .* are missing \(None\); remove"):
            load_image_dataset(str(tmp_path))

    def test_a_training_split_without_labels(self, tmp_path):
        path = save(tmp_path, {**self.IMAGE, "label": ClassLabel(names=["a", "b"])}, image=[image()], label=[-1])
        with pytest.raises(ValueError, match=r"The train split of .* has no labelled images"):
            load_image_dataset(path)

    def test_labels_beyond_the_names(self, tmp_path):
        """On a GPU they end in a device-side assert, in the middle of training."""
        features = {**self.IMAGE, "label": ClassLabel(names=["a", "b"])}
        made = Dataset.from_dict({"image": [image()] * 3, "label": [0, 1, 1]}, features=Features(features))
        table = made.data.table.set_column(1, "label", pa.array([0, 2, 1]))
        Dataset(table, info=made.info).save_to_disk(str(tmp_path))
        with pytest.raises(ValueError, match=r"1 of 3 samples have a label in the train split of .* beyond the 2 cla"):
            load_image_dataset(str(tmp_path))

    @pytest.mark.parametrize("name", ["no/such_folder", "no-such-set"])
    def test_nothing_of_that_name(self, name):
        with pytest.raises(ValueError, match=f"There is no file, folder, demo task or data set on the Hub '{name}'"):
            load_image_dataset(name)

    def test_a_folder_without_images(self, tmp_path):
        with pytest.raises(ValueError, match="is no folder of images"):
            load_image_dataset(str(tmp_path))
