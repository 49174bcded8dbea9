"""Protocols on a few images, in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import transformers
from datasets import DatasetDict
from support.demo_images import few_images
from support.loaded_once import load_models_once

from hf_sharp_prompt import demo
from hf_sharp_prompt.cards import pictures
from hf_sharp_prompt.data import only_classes, template_of
from hf_sharp_prompt.experiments import base_to_novel, clip


SMALL = ["--max_steps", "2", "--use_cpu", "--save_strategy", "no", "--recipes", "coop"]


@functools.cache
def four_classes() -> DatasetDict:
    return few_images(4, train=3, test=2)


def load_few(dataset: str, **loading: object) -> DatasetDict:
    """The same few images under each name; `halved` has two of the classes, in another order."""
    return only_classes(four_classes(), [2, 0]) if dataset == "halved" else four_classes()


def template_of_demo(dataset: str, data_root: str | None) -> str | None:
    """The demo knows the templates of its tasks; nothing is known of others."""
    return template_of(dataset, data_root) if dataset in demo.TASKS else None


@pytest.fixture
def run(monkeypatch, tmp_path, capsys) -> Callable[..., str]:
    """Runs a protocol with arguments, and returns what it prints."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(clip, "load_image_dataset", load_few)
    monkeypatch.setattr(clip, "template_of", template_of_demo)
    load_models_once(monkeypatch)
    monkeypatch.setattr(base_to_novel.BaseToNovel, "draw", lambda *_: None)  # test_run_base2novel.py has its figure
    monkeypatch.setattr(pictures, "plot_curve", lambda *_: None)  # tests of cards draw it
    verbosity = transformers.utils.logging.get_verbosity()

    def run(protocol: ModuleType, *arguments: object, output_dir: Path = tmp_path / "out") -> str:
        words = ["--output_dir", str(output_dir), *SMALL, *map(str, arguments)]
        assert protocol.main(words) == 0
        return capsys.readouterr().out

    yield run
    transformers.utils.logging.set_verbosity(verbosity)
