"""The published protocols draw the published images and split the classes as published."""

import random
from dataclasses import dataclass

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_sharp_prompt.data import base_to_novel, few_shot


NAMES = ["ant", "bee", "cat", "dog", "eel"]


def splits(**sizes: int) -> DatasetDict:
    """Rows that know which they are, of classes in no order."""
    features = Features({"row": Value("string"), "label": ClassLabel(names=NAMES)})
    stream = random.Random(7)
    made = DatasetDict()
    for name, per_class in sizes.items():
        labels = [label for label in range(len(NAMES)) for _ in range(per_class)]
        stream.shuffle(labels)
        rows = [f"{name} {number}" for number in range(len(labels))]
        made[name] = Dataset.from_dict({"row": rows, "label": labels}, features=features)
    return made


def uneven(**sizes: list[int]) -> DatasetDict:
    """As `splits`, with so many rows of each class."""
    full = splits(**{name: max(counts) for name, counts in sizes.items()})
    kept = DatasetDict()
    for name, counts in sizes.items():
        left = dict(enumerate(counts))
        rows = []
        for row, label in enumerate(full[name]["label"]):
            left[label] -= 1
            rows += [row] if left[label] >= 0 else []
        kept[name] = full[name].select(rows)
    return kept


@dataclass
class Datum:
    """As in Dassl: an object per image."""

    impath: str
    label: int


def dassl_few_shot(items: list[Datum], shots: int) -> list[Datum]:
    """Dassl's `generate_fewshot_dataset`, line by line (https://github.com/KaiyangZhou/Dassl.pytorch at c61a1b5)."""
    by_label: dict[int, list[Datum]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    chosen = []
    for of_label in by_label.values():
        if len(of_label) >= shots:
            chosen.extend(random.sample(of_label, shots))
        else:
            chosen.extend(of_label)
    return chosen


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 4, 8])
def test_the_shots_are_those_that_coop_draws(seed, shots):
    """Otherwise results on "seed 1" are not comparable with anyone's."""
    data = splits(train=9, validation=6, test=3)
    drawn = few_shot(data, shots, seed)
    random.seed(seed)
    for name, count in (("train", shots), ("validation", min(shots, 4))):
        items = [Datum(row, label) for row, label in zip(data[name]["row"], data[name]["label"], strict=True)]
        expected = dassl_few_shot(items, count)
        assert list(drawn[name]["row"]) == [item.impath for item in expected]
        assert list(drawn[name]["label"]) == [item.label for item in expected]
    assert list(drawn["test"]["row"]) == list(data["test"]["row"])
    assert list(data["train"]["row"]) == list(splits(train=9)["train"]["row"]), "what was given is as it was"


def test_drawing_neither_needs_nor_moves_the_global_random_numbers():
    """Otherwise loading the data changes what augmentation draws."""
    random.seed(3)
    state = random.getstate()
    first = few_shot(splits(train=5), 2, seed=1)
    assert random.getstate() == state
    random.seed(4)
    assert list(few_shot(splits(train=5), 2, seed=1)["train"]["row"]) == list(first["train"]["row"])


def test_without_a_validation_split_only_training_images_are_drawn():
    """Otherwise data sets of two splits cannot be used."""
    drawn = few_shot(splits(train=5, test=2), 2, seed=1)
    assert {name: len(split) for name, split in drawn.items()} == {"train": 10, "test": 10}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_a_class_with_fewer_images_all_are_taken_as_coop_does(seed, caplog):
    """Otherwise real data cannot be used, or the images of all later classes are others than everyone's."""
    data = uneven(train=[7, 2, 9, 4, 0], validation=[5, 1, 4, 0, 6])
    drawn = few_shot(data, 4, seed)
    random.seed(seed)
    for name in ("train", "validation"):
        items = [Datum(row, label) for row, label in zip(data[name]["row"], data[name]["label"], strict=True)]
        assert list(drawn[name]["row"]) == [item.impath for item in dassl_few_shot(items, 4)]
    assert (
        "2 of 5 classes have fewer than 4 images in the train split, and all of theirs are taken: bee (2), eel (0)"
        in (caplog.text)
    )
    assert "2 of 5 classes have fewer than 4 images in the validation split" in caplog.text


@pytest.mark.parametrize("shots", [0, -1])
def test_fewer_than_one_shot_are_refused(shots):
    """Dassl takes all images then, whatever the table's caption says."""
    with pytest.raises(ValueError, match=f"shots must be at least 1, .* got {shots}"):
        few_shot(splits(train=2), shots, seed=1)


@pytest.mark.parametrize("protocol", [lambda data: few_shot(data, 1, seed=1), base_to_novel])
@pytest.mark.parametrize("label", [-1, None])
def test_images_without_a_label_are_neither_drawn_nor_dropped(protocol, label):
    """Otherwise -1 is a separate class, of which shots are drawn, or images go missing from the test split."""
    data = splits(train=2)
    labels = [label, *data["train"]["label"][1:]]
    data["train"] = data["train"].remove_columns("label").add_column("label", labels, feature=ClassLabel(names=NAMES))
    with pytest.raises(ValueError, match="1 of 10 samples have no label in column 'label'"):
        protocol(data)


@pytest.mark.parametrize("protocol", [lambda data: few_shot(data, 1, seed=1), base_to_novel])
def test_without_a_training_split_the_others_are_named(protocol):
    with pytest.raises(ValueError, match="There is no split named 'train'; there are validation, test"):
        protocol(splits(validation=1, test=1))


def test_the_first_half_of_the_classes_is_base_and_the_rest_novel():
    """Otherwise base and novel accuracies are of other classes than the published ones (five: three and two)."""
    data = splits(train=4, test=2)
    base, novel = base_to_novel(data)
    for part, names in ((base, ["ant", "bee", "cat"]), (novel, ["dog", "eel"])):
        assert list(part) == ["train", "test"]
        for name, split in part.items():
            assert split.features["label"].names == names
            assert set(split["label"]) == set(range(len(names)))
            found = dict(zip(split["row"], (names[label] for label in split["label"]), strict=True))
            known = dict(zip(data[name]["row"], (NAMES[label] for label in data[name]["label"]), strict=True))
            assert found.items() <= known.items(), "the same images under the same names"
            assert len(found) == len(data[name]) // len(NAMES) * len(names)


def test_an_even_number_of_classes_is_halved():
    """Otherwise one class too many is base."""
    features = Features({"row": Value("string"), "label": ClassLabel(names=["a", "b", "c", "d"])})
    rows = {"row": ["x"] * 4, "label": [3, 0, 2, 1]}
    data = DatasetDict(train=Dataset.from_dict(rows, features=features))
    base, novel = base_to_novel(data)
    assert (list(base["train"]["label"]), list(novel["train"]["label"])) == ([0, 1], [1, 0])


def test_a_split_without_images_of_one_half_is_empty_there():
    """Otherwise a data set whose validation split lacks the novel classes cannot be split."""
    data = splits(train=2, validation=2)
    data["validation"] = data["validation"].filter(lambda row: row["label"] < 2)
    base, novel = base_to_novel(data)
    assert (len(base["validation"]), len(novel["validation"])) == (4, 0)
    assert novel["validation"].features["label"].names == ["dog", "eel"]
