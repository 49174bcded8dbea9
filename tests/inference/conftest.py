"""A folder of three classes, the adapters that `sharp-prompt train` makes of it, and commands as if typed."""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import transformers
from inference.dense_adapters import Saved, save_adapter
from support.demo_images import make_folder

from hf_sharp_prompt import __main__ as command_line


NAMES = ["black circle", "black cross", "black heart"]
SHORT = ["--num_train_epochs", "2", "--use_cpu"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, with a test split; not to be written to."""
    return make_folder(tmp_path_factory.mktemp("data") / "shapes", classes=3, train=4, test=2)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns its exit code, what it prints, and what it says on standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    verbosity = transformers.utils.logging.get_verbosity()

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sharp-prompt", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return (ended.value.code, *capsys.readouterr())

    yield run
    transformers.utils.logging.set_verbosity(verbosity)


@pytest.fixture(scope="session")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the demo's CLIP."""
    return train(folder, tmp_path_factory.mktemp("clip"), "coop") / "shapes/coop/seed1"


@pytest.fixture(scope="session")
def trained_vit(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the demo's ViT."""
    return train(folder, tmp_path_factory.mktemp("vit"), "long_tail/ce") / "shapes/ce/seed1"


def train(folder: Path, output_dir: Path, recipe: str) -> Path:
    verbosity = transformers.utils.logging.get_verbosity()
    words = ["train", "--dataset", str(folder), "--recipes", recipe, "--output_dir", str(output_dir), *SHORT]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        assert command_line.run(words) == 0
    transformers.utils.logging.set_verbosity(verbosity)
    return output_dir


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A base model and an adapter of it that finds objects or segments, by the model's name."""
    return cache(lambda name: save_adapter(name, tmp_path_factory.mktemp(name)))
