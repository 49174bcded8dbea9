"""What README and the pages of docs/ show is what works.

- Blocks of Python run, page by page, in a folder in which the names of models on the Hub are folders with the demo's.
  A push saves beside them.
- `predict` and `evaluate` run on the adapter that the page's Python has trained, `recipes` as it is.
- All commands are read by their own parsers, with their recipes; the launcher's words by Accelerate's parser. In a
  minute or two, `test_commands_run.py` runs them.
- A page whose code needs more than that is named in a test_…_page.py, which runs its code.
"""

import argparse
import re
import shutil
from configparser import ConfigParser
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers
from accelerate.commands.launch import launch_command_parser
from PIL import Image
from support.pages import ROOT, blocks_of, commands_of, read_page
from torch.distributed.run import get_args_parser

from hf_sharp_prompt import SharpPromptTrainer
from hf_sharp_prompt import __main__ as command_line
from hf_sharp_prompt.demo import CLIP_PATH, VIT_PATH
from hf_sharp_prompt.experiments import all_classes
from hf_sharp_prompt.experiments.arguments import CLIPPromptArguments, ViTPromptArguments
from hf_sharp_prompt.experiments.methods import ArgumentGroups, Parser, make_parser
from hf_sharp_prompt.experiments.recipes import RECIPES, read_recipe


NAMES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
PAGES = {name: blocks_of(read_page(name)) for name in NAMES}
USES = [["sharp-prompt", "predict"], ["sharp-prompt", "evaluate"]]
"""How commands begin that use an adapter."""

OTHER_TESTS = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*_page.py"))
PROGRAMS = {"mkdocs": "docs", "pytest": "test"}
"""Programs and modules that are no part of the package, and the extra that installs each."""

OF_THE_SYSTEM = ("apt-get",)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages name: models, images, and a recipe."""
    root = tmp_path_factory.mktemp("pages")
    for name, path in (("openai/clip-vit-base-patch16", CLIP_PATH), ("google/vit-base-patch16-224-in21k", VIT_PATH)):
        (root / name).parent.mkdir()
        (root / name).symlink_to(path)
    for folder in ("path/to/images", "other/images", "more/photos"):
        for name, colour in (("red_star", (200, 20, 20)), ("blue_heart", (20, 20, 200))):
            (root / folder / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (48, 48), colour).save(root / folder / name / f"{number}.png")
    for name in ("photo.jpg", "some.jpg"):
        Image.new("RGB", (48, 48)).save(root / name)
    for block in (block for blocks in PAGES.values() for block in blocks if block.name.endswith("_recipe.yaml")):
        (root / block.name).write_text(block.text, encoding="utf-8")
    return root


def names_for(page: str) -> dict[str, object]:
    """What a page's Python takes for granted: a loop has a model, batches and an optimizer."""
    if page != "docs/concepts.md":
        return {}
    model = torch.nn.Linear(4, 2)
    batches = [(torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]))] * 2
    return {"model": model, "loader": batches, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}


def is_run_here(page: str) -> bool:
    """Whether a page has Python, and no test of its own that runs it."""
    return any(block.kind == "python" for block in PAGES[page]) and Path(page).name not in OTHER_TESTS


@pytest.mark.parametrize("page", filter(is_run_here, PAGES))
def test_the_code_runs_and_its_adapter_is_used(page, here, monkeypatch, capsys):
    """The code runs block by block; `predict` and `evaluate` then take the adapter that it has pushed."""
    monkeypatch.chdir(here)
    monkeypatch.setattr(SharpPromptTrainer, "push_to_hub", save_under_my_name)
    names = names_for(page)
    for block in PAGES[page]:
        if block.kind == "python":
            exec(compile(block.text, page, "exec", dont_inherit=True), names)
    if "data" in names:
        assert names["data"]["train"].features["label"].names == ["blue heart", "red star"]
    uses = [words[1:] for words in commands_of(PAGES[page]) if words[:2] in USES]
    monkeypatch.setattr("sys.argv", [])
    verbosity = transformers.utils.logging.get_verbosity()
    for words in uses:
        shutil.copytree("me/pets-gcscoop", words[1], dirs_exist_ok=True)
        capsys.readouterr()
        assert command_line.run(words) == 0, words
        assert "heart" in capsys.readouterr().out
    transformers.utils.logging.set_verbosity(verbosity)


def save_under_my_name(trainer: SharpPromptTrainer) -> None:
    trainer.save_model(f"me/{Path(trainer.args.output_dir).name}")


@pytest.mark.parametrize("page", [each for each in PAGES if commands_of(PAGES[each])])
def test_every_command_is_one(page, here, monkeypatch, capsys):
    """A wrong argument, recipe, script or extra on a page is found by whoever types it."""
    monkeypatch.chdir(here)
    monkeypatch.setattr(transformers.training_args, "is_torch_bf16_gpu_available", lambda: True)
    for words in commands_of(PAGES[page]):
        try:
            read_command(words)
        except Exception as error:  # whatever it is, the command is what one has to know
            pytest.fail(f"{page}: {' '.join(words)}: {error!r}")


def read_command(words: list[str]) -> None:
    """Let the parsers of a command read it."""
    program, *rest = words
    if program == "sharp-prompt":
        read_subcommand(*rest)
    elif program in ("accelerate", "torchrun"):
        parser, words = (launch_command_parser(), rest[1:]) if program == "accelerate" else (get_args_parser(), rest)
        launched = parser.parse_args(words)
        module = ["-m"] if launched.module else []
        read_command(["python", *module, launched.training_script, *launched.training_script_args])
    elif words[:3] == ["python", "-m", "hf_sharp_prompt"]:
        read_subcommand(*rest[2:])
    elif words[:2] == ["python", "-m"] and rest[1].startswith("hf_sharp_prompt."):
        read_with_argparse(lambda: import_module(f"{rest[1]}.__main__").main(rest[2:]))
    elif words[:2] == ["python", "-m"]:
        assert PROGRAMS[rest[1]] in setup()["options.extras_require"]
        assert find_spec(rest[1])
    elif program == "python" and rest[0].startswith("examples/run_"):
        assert (ROOT / rest[0]).is_file()
        read_subcommand(Path(rest[0]).stem.removeprefix("run_"), *rest[1:])
    elif program == "python":
        assert (ROOT / rest[0]).is_file()
    elif words[:2] == ["pip", "install"]:
        extras = rest[-1].partition("[")[2].rstrip("]")
        assert {*extras.split(",")} <= {*setup()["options.extras_require"]}
    elif program not in OF_THE_SYSTEM:
        assert PROGRAMS[program] in setup()["options.extras_require"]


def read_subcommand(name: str, *words: str) -> None:
    if command_line.COMMANDS[name].manual is None:
        read_with_argparse(lambda: command_line.run([name, *words]))
        return
    if name == "train":
        recipe = words[words.index("--recipes") + 1] if "--recipes" in words else "coop"
        is_vit = recipe.startswith(all_classes.VIT_RECIPES)
        groups, parser = train_parser(is_vit)
    else:
        groups, parser = protocol_parser(name)
    args, *_ = parser.parse_args_into_dataclasses([*words], look_for_args_file=False)
    for recipe in args.recipes:
        read_recipe(recipe.removeprefix("long_tail/"), groups.recipes).resolve(on_demo=False)


@cache
def protocol_parser(name: str) -> tuple[ArgumentGroups, Parser]:
    groups = import_module(f"hf_sharp_prompt.{command_line.COMMANDS[name].module}").argument_groups()
    return groups, make_parser(groups, {}, "")


@cache
def train_parser(is_vit: bool) -> tuple[ArgumentGroups, Parser]:
    if is_vit:
        kinds = all_classes.ViTTrainArguments, ViTPromptArguments
    else:
        kinds = all_classes.TrainArguments, CLIPPromptArguments
    groups = ArgumentGroups(*kinds, all_classes.DEFAULTS, RECIPES / (all_classes.VIT_RECIPES if is_vit else ""))
    return groups, make_parser(groups, {}, "")


class ReadError(Exception):
    """The words were read, and the command is not to go on."""


def read_with_argparse(command) -> None:
    """Call a command that ends when its parser has read the words."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *args, **options):
        parse_args(parser, *args, **options)
        raise ReadError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr("sys.argv", [])
        with pytest.raises(ReadError):
            command()


@cache
def setup() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_what_coops_users_are_told_to_type_exists():
    """The tables for those who migrate name arguments of the commands."""
    rows = [line.split("|") for line in read_page("docs/migrating.md").splitlines() if line.startswith("|")]
    told = {argument for row in rows for argument in re.findall(r"--(\w+)", row[2])}
    parsers = [protocol_parser(name)[1] for name in ("base2novel", "few_shot", "cross_dataset")]
    known = {action.dest for parser in parsers for action in parser._actions}
    assert len(told) > 30
    assert told <= known


def test_links_of_readme_lead_somewhere():
    """mkdocs checks those of docs/ alone."""
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read_page(page)):
            assert (ROOT / target).exists(), target
