"""Every tree of docs/data.md's part on own data is loaded by the commands and code beside it; its other code runs."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features
from PIL import Image
from support.pages import blocks_of, commands_of, grow, read_page

from hf_sharp_prompt import data
from hf_sharp_prompt.data import load_image_dataset
from hf_sharp_prompt.experiments.base_to_novel import BaseToNovelArguments, argument_groups
from hf_sharp_prompt.experiments.methods import make_parser, parse_one


OWN_DATA, _, OTHER_DATA = read_page("docs/data.md").partition("## Your own data")[2].partition("\n## ")
BLOCKS = blocks_of(OWN_DATA)
COMMANDS = commands_of(BLOCKS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with all that the page's trees show."""
    monkeypatch.chdir(tmp_path)
    for name, kind, text in BLOCKS:
        if name:
            Path(name).write_text(text, encoding="utf-8")
        elif kind == "text":
            grow(text, tmp_path, make_image)
    return tmp_path


def make_image(path: Path) -> None:
    if path.suffix == ".jpg":
        Image.new("RGB", (8, 8), (9 * int(path.stem), 0, 0)).save(path)


def names_of(dataset: str, **options: str) -> list[str]:
    return load_image_dataset(dataset, **options)["train"].features["label"].names


def test_the_page_has_what_is_tried():
    assert len(COMMANDS) >= 6
    assert {"photos", "scenes", "pets/pets.csv", "birds"} <= {words[3] for words in COMMANDS}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_loads_its_data(here, words):
    assert words[:2] == ["sharp-prompt", "train"]
    groups = argument_groups()
    args = parse_one(BaseToNovelArguments, make_parser(groups, {}, ""), words[2:])
    (dataset,) = args.dataset
    splits = load_image_dataset(dataset, **args.loading)
    expected = {
        "photos": ["great dane", "tabby cat"],
        "scenes": ["church outdoor", "market outdoor"],
        "pets/pets.csv": ["Ann", "Ben"] if args.label_column else ["great dane", "tabby cat"],
        "birds": ["barn owl", "house sparrow"],
    }
    assert splits["train"].features["label"].names == expected[dataset]
    assert {"train", "test"} <= splits.keys()


def test_the_code_runs(here):
    code = "\n".join(text for _, kind, text in BLOCKS if kind == "python")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})
    first, second = output.getvalue().splitlines()
    assert first == "['great dane', 'tabby cat'] 5 3"
    assert "'label': 0" in second


def test_what_is_said_to_be_refused(here):
    with pytest.raises(ValueError, match="named by a code or number"):
        names_of("birds")
    Path("scenes", "train").rename("scenes/train_val2018")
    with pytest.raises(ValueError, match="may be the train or the validation split"):
        names_of("scenes")


def test_the_code_on_the_papers_data_runs(tmp_path, monkeypatch):
    """On a folder of the pets with few images, and on labels as CIFAR-100's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "data" / "oxford_pets"
    (root / "images").mkdir(parents=True)
    rows = {split: [[f"{split}_{label}.jpg", label, f"cat_{label}"] for label in range(4)] for split in SPLITS}
    (root / "split_zhou_OxfordPets.json").write_text(json.dumps(rows))
    for path, *_ in (row for listed in rows.values() for row in listed):
        Image.new("RGB", (8, 8)).save(root / "images" / path)
    folders, long_tail = (block.text for block in blocks_of(OTHER_DATA) if block.kind == "python")
    names: dict[str, object] = {}
    exec(folders, names)
    assert [len(names[half]["train"]) for half in ("base", "novel")] == [2, 2]

    features = Features({"label": ClassLabel(names=[f"thing {label}" for label in range(100)])})
    cifar = Dataset.from_dict({"label": np.arange(50_000) % 100}, features=features)
    monkeypatch.setattr(data, "load_image_dataset", lambda *words, **options: DatasetDict(train=cifar))
    exec(long_tail, names)
    assert len(names["train"]) == 10_847


SPLITS = ["train", "val", "test"]
