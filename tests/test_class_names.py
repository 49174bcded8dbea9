"""The names of classes are read from files, in Python and on the command line."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from hf_sharp_prompt import SharpPromptTrainingArguments
from hf_sharp_prompt.class_names import list_names, names_or_file
from hf_sharp_prompt.data import load_image_dataset
from hf_sharp_prompt.experiments.base_to_novel import BaseToNovel, BaseToNovelArguments
from hf_sharp_prompt.experiments.long_tail import LongTail, LongTailArguments


def table(folder: Path, labels: list[object], name: str = "pets.csv") -> str:
    """Images of these labels, four of each."""
    lines = ["image,label"]
    for number, label in enumerate(labels * 4):
        Image.new("RGB", (48, 48), (9 * number, 0, 0)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label}")
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return str(folder / name)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def label_of_images(splits: DatasetDict) -> dict[int, int]:
    """Number of the image → label."""
    rows = [row for split in splits.values() for row in split]
    return {int(Path(row["image"]["path"]).stem): row["label"] for row in rows}


@pytest.mark.parametrize(
    ("file", "text", "labels", "names", "expected"),
    [
        ("names.txt", "tabby cat\ngreat dane\n\n", [1, 0], ["tabby cat", "great dane"], [1, 0]),
        ("names.json", '["cat", "dog", "bird"]', [0, 2], ["cat", "dog", "bird"], [0, 2]),
        ("names.json", '{"7": "bird", "10": "cat", "9": "dog"}', [10, 9], ["bird", "dog", "cat"], [2, 1]),
        ("names.json", '{"n01": "cat", "n02": "dog"}', ["n02", "n01"], ["cat", "dog"], [1, 0]),
        ("names.txt", "n00000001 cat\nn00000002 big dog\n", ["n00000002", "n00000001"], ["cat", "big dog"], [1, 0]),
        ("names.txt", "cat\ndog\n", ["dog", "cat"], ["cat", "dog"], [1, 0]),
    ],
)
def test_files_of_names(tmp_path, file, text, labels, names, expected):
    data, path = table(tmp_path, labels), written(tmp_path / file, text)
    for given in (path, str(path)):
        splits = load_image_dataset(data, class_names=given)
        assert splits["train"].features["label"].names == names
        assert label_of_images(splits) == dict(enumerate(expected * 4))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("names.txt", "cat\n", "has a label 1, but class_names has only 1 names, of the labels 0 to 0"),
        ("names.txt", "cat\n\ndog\n", r"classes \[1\] have no name"),
        ("names.json", '{"0": "cat"}', "1 of the 2 classes of .* are named by a code or number, .* words: 1. Pass"),
        ("names.json", '{"0": 3}', "must hold a list of names, or an object from the data set's names to names"),
        ("names.json", "[", "names.json is not JSON"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, file, text, message):
    data = table(tmp_path, [0, 1])
    with pytest.raises(ValueError, match=message):
        load_image_dataset(data, class_names=written(tmp_path / file, text))


def test_a_file_that_does_not_exist_is_named_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=rf"no file of class names names.txt; it was looked for at {tmp_path}/names.t"
    ):
        load_image_dataset(table(tmp_path, [0, 1]), class_names="names.txt")


def test_numbers_without_names_are_refused_with_the_remedy(tmp_path):
    """CLIP is asked for "a photo of a 0." otherwise."""
    with pytest.raises(
        ValueError, match=r"2 of the 2 classes .* words: 0, 1\. Pass class_names: .* or a file of eith"
    ):
        load_image_dataset(table(tmp_path, [0, 1]))


def test_labels_that_splits_write_differently_are_refused(tmp_path):
    picture = Image.new("RGB", (4, 4))
    splits = {
        "train": Dataset.from_dict({"image": [picture], "label": [1]}),
        "test": Dataset.from_dict({"image": [picture], "label": ["dog"]}),
    }
    for name, kind in (("train", "int64"), ("test", "string")):
        splits[name] = splits[name].cast(Features({"image": ImageFeature(), "label": Value(kind)}))
    DatasetDict(splits).save_to_disk(str(tmp_path))
    message = "labels of the train split are whole numbers and those of the test split strings; write both in the same"
    with pytest.raises(ValueError, match=message):
        load_image_dataset(str(tmp_path), class_names=["cat", "dog"])


def test_missing_numbers_are_left_out(tmp_path, caplog):
    features = Features({"image": ImageFeature(), "label": Value("int32")})
    rows = {"image": [Image.new("RGB", (4, 4))] * 10, "label": [0, 1, 1, 0, None, -1, 0, 1, 1, 0]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path))
    splits = load_image_dataset(str(tmp_path), class_names=["cat", "dog"])
    assert splits["train"].features["label"] == ClassLabel(names=["cat", "dog"])
    assert sum(map(len, splits.values())) == 8
    assert "2 of 10 images in the train split" in caplog.text


class TestExperiments:
    """`--class_names` and `--on_bad_image` reach the data."""

    @pytest.fixture
    def training(self, tmp_path) -> SharpPromptTrainingArguments:
        return SharpPromptTrainingArguments(str(tmp_path / "runs"), use_cpu=True)

    def test_base_to_novel(self, tmp_path, training, caplog):
        data, file = table(tmp_path, [0, 1, 2]), written(tmp_path / "names.txt", "cat\ndog\nbird\n")
        (tmp_path / "5.png").write_bytes(b"no image")
        args = BaseToNovelArguments(dataset=[data], class_names=str(file), on_bad_image="skip")
        experiment = BaseToNovel(data, args, training)
        assert experiment.splits["train"].features["label"].names == ["cat", "dog", "bird"]
        assert "1 of 12 images" in caplog.text

    def test_long_tail_makes_no_prompts_and_needs_no_names(self, tmp_path, training):
        data = table(tmp_path, [10, 9])
        assert LongTail(data, LongTailArguments(dataset=[data], profile="none"), training).class_names == ["9", "10"]
        file = written(tmp_path / "names.json", '{"9": "cat", "10": "dog"}')
        arguments = LongTailArguments(dataset=[data], class_names=str(file), profile="none")
        assert LongTail(data, arguments, training).class_names == ["cat", "dog"]

    def test_names_are_of_one_data_set(self):
        with pytest.raises(ValueError, match="--class_names names the classes of one data set, but there are 2"):
            BaseToNovelArguments(dataset=["a", "b"], class_names="names.txt")


def test_a_command_line_names_classes_or_one_file(tmp_path):
    lines = written(tmp_path / "names.txt", "\ufefftabby cat\n\ngreat dane\n")
    renamed = written(tmp_path / "names.json", '{"n1": "tabby cat", "n2": "great dane"}')
    names = ["tabby cat", "great dane"]
    assert names_or_file(None) is None
    assert names_or_file(names) == names
    assert names_or_file([str(lines)]) == ["tabby cat", "", "great dane"], "whose second label has no name"
    assert list_names([str(lines)]) == names
    assert names_or_file([str(renamed)]) == dict(zip(("n1", "n2"), names))
    assert list_names([str(renamed)]) == names
    with pytest.raises(ValueError, match="--class_names tabby is no file, and one name is too few"):
        names_or_file(["tabby"])
    assert list_names(["tabby"]) == ["tabby"], "which a detector may be asked for"
    for mistyped in ("nmes.txt", "my/names"):
        with pytest.raises(ValueError, match=f"--class_names {mistyped} is no file"):
            list_names([mistyped])
