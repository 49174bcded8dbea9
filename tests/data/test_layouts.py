"""A layout and a named data set are added at run time and used, and folders are read as they are meant."""

from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image

from hf_sharp_prompt.data import catalogue, find_facts, layouts, load_image_dataset
from hf_sharp_prompt.data.catalogue import CatalogueEntry
from hf_sharp_prompt.data.loading import canonical_name, load_class_names
from hf_sharp_prompt.demo import TASKS


def write(folder: Path, *paths: str, per_class: int = 4) -> str:
    """Images in class folders, all different."""
    for path in paths:
        (folder / path).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / path / f"{number}.png")
    return str(folder)


def names_of(splits: DatasetDict) -> list[str]:
    return splits["train"].features["label"].names


@pytest.fixture
def my_set(tmp_path, monkeypatch) -> CatalogueEntry:
    """A named data set, known in this test alone."""
    monkeypatch.setattr(catalogue, "ADDED", {})
    entry = CatalogueEntry(
        name="my_set",
        source=write(tmp_path / "photos", "c1", "c2"),
        class_names={"c1": "tabby cat", "c2": "great dane"},
        template="a photo of a {}, a type of pet.",
        method_templates={"prograd": "a type of pet, a photo of a {}."},
        license="cc-by-sa-4.0",
        citation="@inproceedings{parkhi2012cats}",
    )
    catalogue.add(entry)
    return entry


class TestCatalogue:
    def test_a_named_data_set_is_loaded_by_its_name(self, my_set):
        splits = load_image_dataset("my_set")
        assert names_of(splits) == load_class_names("my_set") == ["tabby cat", "great dane"]
        assert {name: len(split) for name, split in splits.items()} == {"train": 5, "test": 3}
        assert "my_set" in catalogue.names()

    def test_what_is_known_about_it_is_found_without_reading(self, my_set):
        facts = find_facts("my_set")
        assert (facts.template, facts.license, facts.citation) == (my_set.template, my_set.license, my_set.citation)

    def test_arguments_go_before_the_catalogue(self, my_set):
        assert names_of(load_image_dataset("my_set", class_names=["cat", "dog"])) == ["cat", "dog"]

    def test_a_name_stays_a_name_where_there_is_a_folder_of_that_name(self, my_set, tmp_path, monkeypatch, caplog):
        write(tmp_path / "my_set", "a", "b")
        monkeypatch.chdir(tmp_path)
        assert names_of(load_image_dataset("my_set")) == ["tabby cat", "great dane"]
        assert "my_set is taken as the data set of that name; for the folder give ./my_set." in caplog.text
        assert names_of(load_image_dataset("./my_set")) == ["a", "b"]
        assert canonical_name("my_set") == "my_set"

    def test_columns_and_splits_are_those_of_the_entry(self, tmp_path, monkeypatch):
        monkeypatch.setattr(catalogue, "ADDED", {})
        features = Features({"left": datasets.Image(), "right": datasets.Image(), "kind": Value("int64")})
        picture = Image.new("RGB", (4, 4))
        rows = {"left": [picture] * 4, "right": [picture] * 4, "kind": [0, 1, 1, 0]}
        split = Dataset.from_dict(rows, features=features)
        DatasetDict(partition1=split, partition2=split).save_to_disk(str(tmp_path / "saved"))
        catalogue.add(
            CatalogueEntry(
                "textures",
                source=str(tmp_path / "saved"),
                image_column="right",
                label_column="kind",
                splits={"train": "partition1", "test": "partition2"},
                class_names=["dotted", "striped"],
            )
        )
        splits = load_image_dataset("textures")
        assert list(splits) == ["train", "test"]
        assert names_of(splits) == load_class_names("textures") == ["dotted", "striped"]

    def test_a_file_describes_a_data_set(self, tmp_path):
        """Otherwise a user of the command line has to write Python to name the columns and classes of own data."""
        write(tmp_path / "photos", "c1", "c2")
        file = tmp_path / "pets.yaml"
        file.write_text("source: photos\nclass_names: [tabby cat, great dane]\ntemplate: my {}.\n", encoding="utf-8")
        assert names_of(load_image_dataset(str(file))) == ["tabby cat", "great dane"]
        assert find_facts(str(file)).template == "my {}."

    def test_a_file_in_the_catalogue_s_folder_is_a_data_set(self, tmp_path, monkeypatch):
        """Otherwise adding a data set to the package takes more than one file."""
        monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
        write(tmp_path / "photos", "c1", "c2")
        (tmp_path / "shipped_pets.yaml").write_text("source: photos\ntitle: Pets\n", encoding="utf-8")
        assert catalogue.names() == ["shipped_pets"]
        assert names_of(load_image_dataset("shipped_pets")) == ["c1", "c2"]
        assert catalogue.find("shipped_pets").title == "Pets"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("source: x\nlabel_colum: y\n", "field 'label_colum', .*; did you mean 'label_column'"),
            ("template: a {}.\n", "has no source; add"),
            ("- a\n- b\n", "must map the fields"),
            ("source: [\n", "is not a YAML file"),
            ("source: x\ntemplate: a photo.\n", r"template must have a \{\} for the name of a class, got 'a photo.'"),
            ("source: x\nclass_names: [yes, no]\n", "class_names has True, which is no text; put it in quotes"),
            ("source: x\nsplits: {val: dev}\n", "splits must be of train, validation and test, got 'val'"),
        ],
    )
    def test_a_file_that_describes_no_data_set(self, tmp_path, text, message):
        (tmp_path / "pets.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_image_dataset(str(tmp_path / "pets.yaml"))

    def test_a_split_that_the_source_lacks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(catalogue, "ADDED", {})
        catalogue.add(CatalogueEntry("pets", source=write(tmp_path, "a", "b"), splits={"train": "all"}))
        with pytest.raises(ValueError, match="pets has no split named 'all'; it has train"):
            load_image_dataset("pets")

    def test_the_nearest_name_is_named(self, my_set):
        with pytest.raises(ValueError, match="on the Hub 'my_sett'; did you mean 'my_set'"):
            load_image_dataset("my_sett")
        with pytest.raises(ValueError, match="did you mean 'colour_shape_tint'"):
            load_image_dataset("color_shape_tint")

    @pytest.mark.parametrize("name", ["path/to/images", "someone/pets", "photos", "dataset"])
    def test_a_name_that_is_far_from_all_is_not_taken_for_a_misspelling(self, name):
        """Whether imagenet is meant is no answer to a folder that is not there."""
        with pytest.raises(ValueError, match=f"on the Hub '{name}'; as a path it was looked for at "):
            load_image_dataset(name)

    def test_a_name_with_a_slash_is_refused(self):
        with pytest.raises(ValueError, match="named by one word without slashes, got 'a/b'"):
            catalogue.add(CatalogueEntry("a/b", source="x"))

    def test_a_demo_task_has_its_template_and_classes(self):
        name, task = next(iter(TASKS.items()))
        assert find_facts(name).template == task.template
        assert load_class_names(name) == list(task.classes)


class TextList(layouts.Layout):
    """A text file with a path and a class in each line."""

    description = "a text file of paths and classes"

    def recognises(self, source: str) -> bool:
        return source.endswith(".list")

    def read(self, entry: CatalogueEntry) -> Dataset:
        lines = Path(entry.source).read_text(encoding="utf-8").splitlines()
        paths, labels = zip(*(line.split("\t") for line in lines))
        rows = {"image": [str(Path(entry.source).parent / path) for path in paths], "label": list(labels)}
        return Dataset.from_dict(rows, features=Features({"image": datasets.Image(), "label": Value("string")}))


class TestLayouts:
    def test_a_layout_is_added_and_used(self, tmp_path, monkeypatch):
        monkeypatch.setattr(layouts, "LAYOUTS", [*layouts.LAYOUTS])
        write(tmp_path, "x")
        file = tmp_path / "pets.list"
        file.write_text("".join(f"x/{n}.png\t{('dog', 'cat')[n % 2]}\n" for n in range(4)), encoding="utf-8")
        with pytest.raises(ValueError, match=r"stored in no known way.*: a task of the embedded demo; "):
            load_image_dataset(str(file))
        layouts.add(TextList())
        assert names_of(load_image_dataset(str(file))) == load_class_names(str(file)) == ["cat", "dog"]


class TestClassFolders:
    def test_nested_folders_keep_their_path_as_a_name(self, tmp_path):
        """As in SUN397: otherwise church/outdoor and market/outdoor are one class."""
        data = write(tmp_path, "church/outdoor", "church/indoor", "market/outdoor", "beach")
        splits = load_image_dataset(data)
        assert names_of(splits) == ["beach", "church indoor", "church outdoor", "market outdoor"]
        for row in splits["train"]:
            name = names_of(splits)[row["label"]]
            assert Path(row["image"]["path"]).relative_to(tmp_path).parent.as_posix() == name.replace(" ", "/")

    def test_folders_of_the_same_name_are_not_merged(self, tmp_path):
        with pytest.raises(ValueError, match=r"several classes are named \['church outdoor'\]; rename or merge"):
            load_image_dataset(write(tmp_path, "church/outdoor", "church_outdoor"))

    @pytest.mark.parametrize("wrapper", ["images", "a/b", "my_data"])
    def test_folders_around_all_others_name_nothing(self, tmp_path, wrapper):
        """Archives often unpack into one folder."""
        write(tmp_path / wrapper, "train/cat", "train/dog", "test/cat", "test/dog", per_class=2)
        splits = load_image_dataset(str(tmp_path))
        assert names_of(splits) == ["cat", "dog"]
        assert {name: len(split) for name, split in splits.items()} == {"train": 4, "test": 4}

    @pytest.mark.parametrize(
        ("train", "test"), [("seg_train/seg_train", "seg_test/seg_test"), ("train2017", "val2017"), ("Train", "Test")]
    )
    def test_a_word_of_a_folder_s_name_names_the_split(self, tmp_path, train, test):
        data = write(tmp_path, f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog", per_class=2)
        splits = load_image_dataset(data)
        assert names_of(splits) == ["cat", "dog"]
        assert {name: len(split) for name, split in splits.items()} == {"train": 4, "test": 4}

    def test_a_folder_of_two_splits_is_refused(self, tmp_path):
        """It would be trained on and tested on: `datasets` takes it as both."""
        data = write(tmp_path, "train_val2018/cat", "train_val2018/dog", "test2018/cat", "test2018/dog")
        with pytest.raises(ValueError, match=r"The folder train_val2018 of .* may be the train or the validation spl"):
            load_image_dataset(data)

    def test_classes_may_be_named_like_splits(self, tmp_path):
        """A train is a vehicle, too, and a test tube is no test."""
        assert names_of(load_image_dataset(write(tmp_path / "1", "bus", "train"))) == ["bus", "train"]
        assert names_of(load_image_dataset(write(tmp_path / "2", "beaker", "test_tube"))) == ["beaker", "test tube"]

    def test_splits_without_class_folders_are_refused(self, tmp_path):
        """Otherwise 'train' and 'test' are the two classes."""
        with pytest.raises(ValueError, match=r"named like splits \(test, train\) but have no class folders; move"):
            load_image_dataset(write(tmp_path, "train", "test"))

    def test_images_in_no_split_are_left_out_and_counted(self, tmp_path, caplog):
        data = write(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog", "unlabelled", per_class=2)
        assert list(load_image_dataset(data)) == ["train", "test"]
        assert f"2 images of {data} are in no split and are left out, such as unlabelled/0.png." in caplog.text

    def test_images_in_no_class_folder_are_refused(self, tmp_path):
        data = write(tmp_path, "cat", "dog", ".")
        with pytest.raises(ValueError, match=r"4 of 12 images of .* are in no class folder, such as 0.png; move each"):
            load_image_dataset(data)

    def test_hidden_folders_and_other_files_are_passed_over(self, tmp_path):
        data = write(tmp_path, "cat", "dog", ".thumbnails", "__MACOSX/cat")
        (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
        assert names_of(load_image_dataset(data)) == ["cat", "dog"]

    def test_a_folder_without_images_says_what_is_there(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(
            ValueError, match=r"is no folder of images: there is no image file in it\. It holds: notes"
        ):
            load_image_dataset(str(tmp_path))

    def test_one_class_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"at least two classes, but .* has 1: \['cat'\]"):
            load_image_dataset(write(tmp_path, "cat"))

    def test_a_metadata_file_has_the_labels(self, tmp_path, monkeypatch):
        """`datasets`' own way: images in one folder, and a table of them."""
        write(tmp_path, "images")
        rows = "".join(f"images/{n}.png,{('cat', 'dog')[n % 2]}\n" for n in range(4))
        (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}", encoding="utf-8")
        assert names_of(load_image_dataset(str(tmp_path))) == ["cat", "dog"]

    def test_splits_that_share_files_are_refused(self, tmp_path):
        """Otherwise accuracy is measured on images that were trained on."""
        write(tmp_path, "images", per_class=6)
        features = Features({"image": datasets.Image(), "label": ClassLabel(names=["cat", "dog"])})

        def split(*numbers: int) -> Dataset:
            paths = [str(tmp_path / "images" / f"{number}.png") for number in numbers]
            rows = {"image": paths, "label": [number % 2 for number in numbers]}
            return Dataset.from_dict(rows, features=features)

        shared = DatasetDict(train=split(0, 1, 2, 3), test=split(3, 4, 5))
        loaded = type("Shared", (TextList,), {"read": lambda self, entry: shared})()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layouts, "LAYOUTS", [loaded])
            message = r"1 image files are in the test split and in the train split as well, such as .*3\.png; keep"
            with pytest.raises(ValueError, match=message):
                load_image_dataset("shared.list")


class TestNamesOfClasses:
    @pytest.mark.parametrize("codes", [("n01440764", "n01443537"), ("0", "1"), ("00", "goldfish")])
    def test_codes_and_numbers_are_refused(self, tmp_path, codes):
        """CLIP is asked for "a photo of a n01440764." otherwise."""
        message = rf"of the 2 classes of .* are named by a code or number, .* words: {codes[0]}.*Pass class_names"
        with pytest.raises(ValueError, match=message):
            load_image_dataset(write(tmp_path, *codes))

    def test_codes_are_replaced(self, tmp_path):
        data = write(tmp_path, "n01440764", "n01443537")
        assert names_of(load_image_dataset(data, class_names=["tench", "goldfish"])) == ["tench", "goldfish"]
        names = {"n01443537": "goldfish", "n01440764": "tench"}
        assert names_of(load_image_dataset(data, class_names=names)) == ["tench", "goldfish"]
        assert names_of(load_image_dataset(data, class_names={})) == ["n01440764", "n01443537"]

    @pytest.mark.parametrize(
        ("class_names", "message"),
        [
            (["cat"], "class_names has 1 names, but .* has 2 classes"),
            ({"cat_s": "cat"}, "class_names has 'cat_s', no class of .*; did you mean 'cat'"),
            (["cat", "cat"], r"several classes are named \['cat'\]"),
            (["cat", " "], r"classes \[1\] have no name"),
        ],
    )
    def test_names_that_do_not_fit(self, tmp_path, class_names, message):
        with pytest.raises(ValueError, match=message):
            load_image_dataset(write(tmp_path, "cat", "dog"), class_names=class_names)

    @pytest.mark.parametrize(
        ("feature", "labels", "message"),
        [
            (Value("int64"), [0, 2, 1, 0], "has a label 2, but class_names has only 2 names"),
            (Value("string"), ["ant", "bee", "cow", "ant"], "has labels that class_names has not: cow"),
        ],
    )
    def test_labels_beyond_the_names(self, tmp_path, feature, labels, message):
        rows = {"image": [Image.new("RGB", (4, 4))] * 4, "label": labels}
        features = Features({"image": datasets.Image(), "label": feature})
        Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path))
        with pytest.raises(ValueError, match=message):
            load_image_dataset(str(tmp_path), class_names=["ant", "bee"])
