"""CONTRIBUTING's blocks are what they say: each adds a member at run time, and the member is used by its name."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model
from training.small_runs import make_trainer
from tuners.test_new_model_types import PIXELS, a_clip

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.data import layouts, load_image_dataset
from hf_sharp_prompt.experiments.recipes import read_recipe
from hf_sharp_prompt.objectives import LongTailLoss, Objective
from hf_sharp_prompt.sharpness import SharpnessRule
from hf_sharp_prompt.tuners.text_tower import TEXT_TOWERS
from hf_sharp_prompt.tuners.vision_tower import VISION_TOWERS


TEXT = Path(__file__).parents[2].joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^## A new ([\w ]+)\n(?:(?!^## ).*\n)*?```(?:python|yaml)\n((?s:.*?))```", TEXT, re.M))
TABLES = [
    *(registry._members for registry in (SharpnessRule.registry, Objective.registry, LongTailLoss.registry)),
    CLIPPromptConfig.designs._members,
    TEXT_TOWERS,
    VISION_TOWERS,
]


@pytest.fixture(autouse=True)
def _known_as_before(monkeypatch):
    monkeypatch.setattr(layouts, "LAYOUTS", [*layouts.LAYOUTS])
    before = [dict(table) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)


def add(kind: str) -> None:
    exec(compile(BLOCKS[kind], f"CONTRIBUTING.md, a new {kind}", "exec", dont_inherit=True), {"__name__": __name__})


def test_a_sharpness_rule_an_objective_and_a_loss_are_trained_with(tmp_path):
    for kind in ("sharpness rule", "objective", "loss"):
        add(kind)
    trainer = make_trainer(tmp_path, sharpness="uphill", objectives=["confident"], loss="prior_shift", max_steps=2)
    trainer.train()
    assert trainer.sharpness.rule.name == "uphill"
    assert [each.name for each in trainer.objectives.objectives] == ["confident"]
    logged = set().union(*trainer.state.log_history)
    assert {"confident_loss", "perturbed_loss"} <= logged


def test_a_design_is_recorded_and_checked(clip, tokenizer):
    add("design of prompts")
    model = get_peft_model(clip, CLIPPromptConfig(design="two_towers"))
    config = model.peft_config["default"]
    assert (config.design, config.num_text_tokens, config.num_vision_tokens) == ("two_towers", 2, 2)
    with pytest.raises(ValueError, match=r"two_towers|TwoTowers"):
        CLIPPromptConfig(design="two_towers", coupled=True)


def test_a_model_type_is_prompted(tokenizer):
    base = a_clip(tokenizer)
    with pytest.raises(ValueError, match="my_clip"):
        get_peft_model(a_clip(tokenizer), CLIPPromptConfig(num_text_tokens=2, num_vision_tokens=2))
    add("model type")
    model = get_peft_model(base, CLIPPromptConfig(num_text_tokens=2, num_vision_tokens=2))
    model.set_classes(["cat", "dog"], tokenizer)
    model(pixel_values=PIXELS, labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_a_data_set_and_a_layout_are_loaded(tmp_path):
    add("data layout")
    images, labels = np.zeros((8, 6, 6, 3), dtype=np.uint8), np.array([0, 1] * 4)
    np.savez(tmp_path / "photos.npz", images=images, labels=labels, names=["n1", "n2"])
    entry = BLOCKS["data set"].replace("source: photos ", "source: photos.npz ")
    assert "photos.npz" in entry
    (tmp_path / "shapes.yaml").write_text(entry)
    splits = load_image_dataset(str(tmp_path / "shapes.yaml"))
    assert splits["train"].features["label"].names == ["red star", "blue heart"]
    assert len(splits["train"]) + len(splits["test"]) == 8


def test_a_recipe_builds_on_another(tmp_path):
    (tmp_path / "wide.yaml").write_text(BLOCKS["recipe"])
    values = read_recipe(str(tmp_path / "wide.yaml")).resolve(on_demo=False)
    assert values == {**read_recipe("coop").resolve(False), "sharpness": "sam", "sharpness_args": {"rho": 0.2}}


def test_no_block_is_left_out():
    tried = {"sharpness rule", "objective", "loss", "design of prompts", "model type", "data set", "data layout"}
    assert BLOCKS.keys() == tried | {"recipe"}
    assert all(len(block.splitlines()) <= 18 for block in BLOCKS.values())
