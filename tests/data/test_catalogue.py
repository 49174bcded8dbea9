"""The named data sets: what their entries say, and the command that checks it."""

import dataclasses
import json
import re
from types import SimpleNamespace

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from huggingface_hub import DatasetCardData
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image as Picture

from hf_sharp_prompt.data import catalogue, layouts, load_image_dataset, template_of
from hf_sharp_prompt.data.catalogue import CatalogueEntry
from hf_sharp_prompt.data.catalogue.__main__ import main
from hf_sharp_prompt.data.catalogue.check import check_on_hub
from hf_sharp_prompt.data.class_names import choose_names


PAPERS = [
    *["caltech101", "dtd", "eurosat", "fgvc_aircraft", "food101", "imagenet", "oxford_flowers", "oxford_pets"],
    *["stanford_cars", "sun397", "ucf101", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenetv2"],
    *["cifar100", "imagenet_lt", "places_lt", "inat2018"],
]


@pytest.mark.parametrize("name", PAPERS)
def test_every_set_of_the_papers_says_what_one_has_to_know(name):
    entry = catalogue.find_entry(name)
    assert None not in (entry.title, entry.num_classes, entry.template)
    assert entry.folders, "data_root has to find it."
    assert re.match(r"@\w+\{\w+,\n(  \w+ = \{.*\},?\n)+\}\n$", entry.citation)
    assert entry.folder_sizes.keys() <= {"train", "validation", "test"}
    assert entry.note, "Say what could not be checked, or how the Hub's data differ from the papers'."
    if entry.revision is not None:
        assert re.fullmatch("[0-9a-f]{40}", entry.revision)
    if entry.splits and entry.sizes:
        assert {*entry.splits.values()} == {*entry.sizes}


@pytest.mark.parametrize(
    ("dataset", "names", "expected"),
    [
        (
            "stanford_cars",
            ["AM General Hummer SUV 2000", "Audi 100 Wagon 1994"],
            ["2000 AM General Hummer SUV", "1994 Audi 100 Wagon"],
        ),
        (
            "sun397",
            ["abbey", "apartment building outdoor", "barndoor"],
            ["abbey", "outdoor apartment building", "barndoor"],
        ),
        ("ucf101", ["ApplyEyeMakeup", "YoYo", "Archery"], ["Apply Eye Makeup", "Yo Yo", "Archery"]),
    ],
)
def test_words_are_in_the_order_of_the_papers(dataset, names, expected):
    assert choose_names(names, catalogue.find_entry(dataset).naming, dataset) == expected


@pytest.mark.parametrize(
    ("dataset", "method", "template"),
    [
        ("oxford_pets", None, "a photo of a {}, a type of pet."),
        ("oxford_pets", "prograd", "a type of pet, a photo of a {}."),
        ("dtd", "kgcoop", "a photo of a {}, a type of texture."),
        ("dtd", "coop", "{} texture."),
        ("somebody/something", None, None),
    ],
)
def test_a_data_set_has_its_own_prompt(dataset, method, template):
    """Offline: the Hub is not asked for it."""
    assert template_of(dataset, method=method) == template


class OnHub(layouts.Layout):
    """Stands for the Hub."""

    description = "rows in memory"

    def __init__(self, source, splits):
        self.source, self.splits = source, splits

    def recognises(self, source):
        return source == self.source

    def read(self, entry):
        return self.splits


def rows(labels, feature, column="label"):
    features = Features({"image": Image(), column: feature})
    images = [{"bytes": bytes([number]), "path": None} for number in range(len(labels))]
    return Dataset.from_dict({"image": images, column: labels}, features=features)


def load_as_on_hub(monkeypatch, name, splits):
    layout = OnHub(catalogue.find_entry(name).source, DatasetDict(splits))
    monkeypatch.setattr(layouts, "LAYOUTS", [layout, *layouts.LAYOUTS])
    return load_image_dataset(name)


def test_eurosat_has_the_names_of_the_papers(monkeypatch):
    source = ClassLabel(names=list(catalogue.find_entry("eurosat").class_names))
    splits = {split: rows([0, 9, 3], source) for split in ("train", "validation", "test")}
    loaded = load_as_on_hub(monkeypatch, "eurosat", splits)
    names = loaded["test"].features["label"].names
    assert [names[label] for label in loaded["test"]["label"]] == [
        "Annual Crop Land",
        "Sea or Lake",
        "Highway or Road",
    ]


def test_caltech_is_without_its_easy_faces(monkeypatch):
    """Images of a class that is left out are left out, and the others are numbered from 0."""
    source = ClassLabel(names=["accordion", "faces", "faces_easy", "ferry", "airplanes", "leopards", "motorbikes"])
    loaded = load_as_on_hub(
        monkeypatch, "caltech101", {"train": rows([3, 2, 1, 0, 2, 4], source), "test": rows([2, 6, 0], source)}
    )
    names = ["accordion", "face", "ferry", "airplane", "leopard", "motorbike"]
    assert loaded["train"].features["label"].names == names
    assert [names[label] for label in loaded["train"]["label"]] == ["ferry", "face", "accordion", "airplane"]
    assert [image["bytes"][0] for image in loaded["train"]["image"]] == [0, 2, 3, 5]
    assert loaded["test"]["label"] == [5, 0]


def test_imagenet_r_is_for_testing_alone(monkeypatch):
    loaded = load_as_on_hub(
        monkeypatch, "imagenet_r", {"test": rows(["great_white_shark", "ant"], Value("string"), "class_name")}
    )
    assert {*loaded} == {"test"}
    assert loaded["test"].features["label"].names == ["ant", "great white shark"]
    assert loaded["test"]["label"] == [1, 0]


def test_a_set_that_is_not_on_the_hub_asks_for_its_folder():
    with pytest.raises(ValueError, match=r"places_lt can only be read from a folder; give data_root, .*Places_LT/"):
        load_image_dataset("places_lt")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rename": ["a"]}, "rename must be a pattern and what to write"),
        ({"splits": {"dev": "dev"}}, "splits must be"),
    ],
)
def test_fields_that_say_nothing(fields, message):
    with pytest.raises(ValueError, match=message):
        CatalogueEntry("pets", "me/pets", **fields)


def card(columns=("image", "label"), names=("cat", "dog"), **sizes):
    features = [{"name": "image", "dtype": "image"}, {"name": "label", "dtype": {"class_label": {"names": {}}}}]
    features[1]["dtype"]["class_label"]["names"] = {str(label): name for label, name in enumerate(names)}
    described = {
        "features": [feature for feature in features if feature["name"] in columns],
        "splits": [{"name": split, "num_examples": size} for split, size in sizes.items()],
    }
    return DatasetCardData(dataset_info=described)


class FakeHub:
    """Answers as `HfApi` does, from cards or errors by id."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def dataset_info(self, repo_id, *, revision=None):
        self.asked.append((repo_id, revision))
        answer = self.answers[repo_id]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(card_data=answer)


def hub_error(kind):
    return kind("refused", response=SimpleNamespace(headers={}, request=None, status_code=404))


ENTRY = CatalogueEntry(
    "pets",
    "me/pets",
    revision="abc",
    image_column="image",
    label_column="label",
    sizes={"train": 3, "test": 2},
    num_classes=2,
)


class TestCheckOnHub:
    def test_a_true_entry(self):
        hub = FakeHub({"me/pets": card(train=3, test=2)})
        assert check_on_hub(ENTRY, hub) == []
        assert hub.asked == [("me/pets", "abc")]

    @pytest.mark.parametrize(
        ("changes", "answer", "expected"),
        [
            ({"label_column": "breed"}, card(train=3, test=2), "There is no column 'breed'; there are image, label."),
            ({"num_classes": 3}, card(train=3, test=2), "There are 2 classes, not 3."),
            ({"num_classes": 1, "left_out": ["cow"]}, card(train=3, test=2), "There is no class 'cow'."),
            ({"class_names": {"hen": "Hen"}}, card(train=3, test=2), "There is no class 'hen'."),
            ({"splits": {"test": "val"}}, card(train=3, test=2), "There is no split 'val'; there are train, test."),
            ({}, card(train=4, test=2), "The train split has 4 images, not 3."),
            ({}, DatasetCardData(), "The card of me/pets does not describe columns and splits."),
            ({}, hub_error(RepositoryNotFoundError), "There is no data set me/pets on the Hub."),
            ({}, hub_error(RevisionNotFoundError), "me/pets has no revision abc."),
            ({}, hub_error(GatedRepoError), "me/pets is shown only to those who have agreed to its terms."),
            ({}, ConnectionError("no\nroute"), "The Hub could not be asked (ConnectionError: no route)."),
        ],
    )
    def test_an_entry_that_is_not_true(self, changes, answer, expected):
        assert expected in check_on_hub(dataclasses.replace(ENTRY, **changes), FakeHub({"me/pets": answer}))

    def test_the_configuration_that_is_loaded(self):
        one, other = card(train=3, test=2)["dataset_info"], card(train=9, test=9)["dataset_info"]
        hub = FakeHub(
            {"me/pets": DatasetCardData(dataset_info=[other | {"config_name": "b"}, one | {"config_name": "a"}])}
        )
        assert check_on_hub(dataclasses.replace(ENTRY, config="a"), hub) == []
        assert check_on_hub(dataclasses.replace(ENTRY, config="b"), hub) != []


class TestCommand:
    def test_a_line_for_each_set_and_a_status(self, capsys):
        pets = catalogue.find_entry("oxford_pets")
        true = card(names=[f"cat {number}" for number in range(37)], train=3680, test=3669)
        assert main(["oxford_pets"], FakeHub({pets.source: true})) == 0
        assert main(["oxford_pets", "places_lt"], FakeHub({pets.source: card(train=3680, test=1)})) == 1
        first, third, second = capsys.readouterr().out.splitlines()
        assert first == "oxford_pets: as described"
        assert second == "oxford_pets: There are 2 classes, not 37. The test split has 1 images, not 3669."
        assert third.startswith("places_lt: not on the Hub. No copy")

    def test_all_sets_are_asked_for_without_names(self, capsys):
        class Unreachable:
            def dataset_info(self, repo_id, *, revision=None):
                raise ConnectionError("no network")

        assert main([], Unreachable()) == 1
        assert len(capsys.readouterr().out.splitlines()) == len(catalogue.names())

    def test_folders_are_compared_with_the_papers(self, tmp_path, capsys):
        root = tmp_path / "oxford_pets"
        (root / "images").mkdir(parents=True)
        listed = {
            split: [[f"{split}{label}.jpg", label, f"cat_{label}"] for label in range(2)]
            for split in ("train", "val", "test")
        }
        for path, _, _ in (row for rows in listed.values() for row in rows):
            Picture.new("RGB", (8, 8)).save(root / "images" / path)
        (root / "split_zhou_OxfordPets.json").write_text(json.dumps(listed))
        assert main(["--data_root", str(tmp_path)]) == 1
        assert capsys.readouterr().out == (
            "oxford_pets: The train split has 2 images, not 2944. The validation split has 2 images, not 736. "
            "The test split has 2 images, not 3669. There are 2 classes, not 37.\n"
        )
        assert main(["eurosat", "--data_root", str(tmp_path)]) == 1
        assert "eurosat is not in" in capsys.readouterr().out

    def test_an_unknown_name(self, capsys):
        with pytest.raises(SystemExit):
            main(["oxford_cats"])
        assert "The catalogue has no oxford_cats; it has caltech101, cifar100" in capsys.readouterr().err
