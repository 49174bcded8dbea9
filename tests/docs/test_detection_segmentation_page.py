"""All blocks of docs/detection_segmentation.md run, in their order, on the data that its trees show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from support.pages import blocks_of, commands_of, grow, read_page

from hf_sharp_prompt import __main__ as command_line
from hf_sharp_prompt import objectives
from hf_sharp_prompt.data.detection import category_names, load_detection_dataset
from hf_sharp_prompt.data.segmentation import load_segmentation_dataset, segmented_classes
from hf_sharp_prompt.demo import SCENE_TASKS
from hf_sharp_prompt.experiments import detection, segmentation
from hf_sharp_prompt.experiments.methods import make_parser, parse_one


PAGE_NAME = "docs/detection_segmentation.md"
PAGE = read_page(PAGE_NAME)
BLOCKS = blocks_of(PAGE)
COMMANDS = [  # the scripts have tests of their own
    words for words in commands_of(BLOCKS) if words[0] == "sharp-prompt"
]
USES = [words for words in COMMANDS if words[1] in ("predict", "evaluate")]
PYTHON = [text for _, kind, text in BLOCKS if kind == "python"]
CLASSES = {"street": ["car", "bicycle", "traffic light", "bus"], "farm": ["cow", "hen", "barn", "pond"]}
MASKS = ["5.png", "5_labels.png", "classes.txt"]
PROTOCOLS = {"detection": detection, "segmentation": segmentation}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """The folder with all that the page's trees show."""
    root = tmp_path_factory.mktemp("page")
    for name, kind, text in BLOCKS:
        if name:
            (root / name).write_text(text, encoding="utf-8")
        elif kind == "text":
            grow(text, root, make_image)
    return root


def make_image(path: Path) -> None:
    if path.suffix == ".jpg":
        Image.effect_noise((64, 48), 20 * int(path.stem)).convert("RGB").save(path)
    elif path.suffix == ".png":
        values = np.zeros((48, 64), np.uint8)
        values[5:20, 5:30], values[25:40, 5:30] = int(path.stem) % 4 + 1, int(path.stem) % 3 + 1
        Image.fromarray(values).save(path)


@pytest.mark.parametrize("words", [each for each in COMMANDS if each not in USES], ids=" ".join)
def test_every_command_that_trains_reads_its_data(words, here, monkeypatch):
    monkeypatch.chdir(here)
    protocol = PROTOCOLS[words[1]]
    groups = protocol.argument_groups()
    args = parse_one(groups.experiment, make_parser(groups, {}, ""), words[2:])
    if args.dataset[0] not in SCENE_TASKS:
        (dataset,) = args.dataset
        names = category_names(load_detection_dataset(dataset)["train"]) if words[1] == "detection" else None
        names = names or segmented_classes(load_segmentation_dataset(dataset))
        assert (
            names
            == {"street": ["car", "bicycle", "traffic light", "bus"], "farm": ["cow", "hen", "barn", "pond"]}[dataset]
        )


@pytest.fixture(scope="module")
def trained(here) -> dict[str, Any]:
    """What the page's first two blocks of Python leave: trained adapters, and names for the other blocks."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for block in PYTHON[:2]:
            exec(compile(block, PAGE_NAME, "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize("words", USES, ids=" ".join)
def test_every_command_uses_the_adapters(words, here, trained, monkeypatch, capsys):
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.argv", [])
    verbosity = transformers.utils.logging.get_verbosity()
    assert command_line.run(words[1:]) == 0
    transformers.utils.logging.set_verbosity(verbosity)
    printed = capsys.readouterr().out
    for word in {"jsonl": ['"share"'], "csv": ["image,rank,label,share"]}.get(words[-1], []):
        assert word in printed
    if "--output_dir" in words:
        written = sorted(path.name for path in Path(words[words.index("--output_dir") + 1]).iterdir())
        assert written == (["1.png", "2.png", "3.png", "4.png"] if words[2] == "runs/objects" else MASKS)


def test_transformers_pipelines_run(here, trained, monkeypatch):
    monkeypatch.chdir(here)
    names = {**trained}
    for block in PYTHON[2:]:
        exec(compile(block, PAGE_NAME, "exec", dont_inherit=True), names)
    assert {each["label"] for each in names["found"]} <= {"car", "traffic light"}
    assert names["masks"].keys() <= {*CLASSES["farm"], "background"}


def test_the_page_says_which_objectives_and_rules_are_refused():
    refused = [name for name in objectives.names() if objectives.Objective.registry.find(name).reads_image_logits]
    told = PAGE.partition("- **Refused**")[2].partition("\n\n")[0].lower()
    assert all(name in told for name in (*refused, "imbsam", "cocoop", "kgcoop", "nfl"))
