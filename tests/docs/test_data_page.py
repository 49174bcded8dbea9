"""Every tree of docs/data.md's part on own data is loaded by the commands and the code beside it."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from hf_sharp_prompt.data import load_image_dataset
from hf_sharp_prompt.experiments.base_to_novel import BaseToNovelArguments, argument_groups
from hf_sharp_prompt.experiments.methods import make_parser, parse_one


PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
OWN_DATA = PAGE.partition("## Your own data")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"(?:`([^`\n]+)`:\n\n)?```(\w+)\n(.*?)```", OWN_DATA, re.DOTALL)
"""The name of a file if there is one, the language, and the text of each block."""

COMMANDS = [line for _, kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with all that the page's trees show."""
    monkeypatch.chdir(tmp_path)
    for name, kind, text in BLOCKS:
        if name:
            Path(name).write_text(text, encoding="utf-8")
        elif kind == "text":
            grow(text)
    return tmp_path


def grow(tree: str) -> None:
    """Make the folders and images of a tree, in which four spaces are a level."""
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        for name in re.split(r" {2,}", line.strip()):
            path = Path(*folders[:depth], name)
            if name.endswith("/"):
                path.mkdir()
                folders[depth:] = [name]
            elif path.suffix == ".jpg":
                Image.new("RGB", (8, 8), (9 * int(path.stem), 0, 0)).save(path)


def names_of(dataset: str, **options: str) -> list[str]:
    return load_image_dataset(dataset, **options)["train"].features["label"].names


def test_the_page_has_what_is_tried():
    assert len(COMMANDS) >= 6
    assert {"photos", "scenes", "pets/pets.csv", "birds"} <= {shlex.split(command)[3] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_loads_its_data(here, command):
    words = shlex.split(command)
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
