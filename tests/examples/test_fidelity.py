"""docs/fidelity.md says what each recipe trains; here each recipe is really run and compared with it."""

import copy
import dataclasses
import functools
import math
import re
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from torch import nn
from training.small_runs import CLASSES, load_clip, load_processor, make_data
from transformers import CLIPConfig, CLIPModel, TrainerCallback, ViTConfig, ViTModel

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, ViTPromptConfig
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.experiments import base_to_novel, long_tail
from hf_sharp_prompt.experiments.methods import parse_methods
from hf_sharp_prompt.experiments.recipes import RECIPES, list_recipes


ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
RUN_EPOCHS = 2
NOVEL = ["orange wedge", "pink cross"]


def read_table() -> dict[str, dict[str, str]]:
    """The rows of the page's table of numbers: by recipe, by column."""
    rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in PAGE.read_text().splitlines()]
    header = next(index for index, row in enumerate(rows) if row[0] == "recipe" and "epochs" in row)
    table = {}
    for row in rows[header + 2 :]:
        if len(row) != len(rows[header]):
            break
        table[row[0].strip("`")] = dict(zip(rows[header][1:], row[1:], strict=True))
    return table


TABLE = read_table()
NAMES = sorted(list_recipes())


def read_recipe(recipe: str, output_dir: Path):
    """A recipe as its script reads it for a data set of the user's."""
    arguments = ["--recipes", recipe.removeprefix("long_tail/"), "--dataset", "me/photos", "--use_cpu"]
    arguments += ["--output_dir", str(output_dir), "--dataloader_num_workers", "0", "--save_strategy", "no"]
    arguments += ["--dataloader_persistent_workers", "False"]
    protocol = long_tail if recipe.startswith("long_tail/") else base_to_novel
    _, (method,) = parse_methods(protocol.argument_groups(), "", arguments)
    return method


class Observer(TrainerCallback):
    """Remembers each step's epoch and the groups that the optimizer steps with; ends the run after a few epochs."""

    def __init__(self, trainer: SharpPromptTrainer) -> None:
        self.trainer, self.steps = trainer, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if self.trainer.early_stage is None:  # whose epochs are the run's first, taken twice
            groups = self.trainer.optimizer.param_groups
            self.steps.append((int(state.epoch), [{**group, "params": list(group["params"])} for group in groups]))

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        control.should_training_stop |= self.trainer.early_stage is None and state.epoch >= RUN_EPOCHS


@functools.cache
def small_vit() -> ViTModel:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2, image_size=16, patch_size=8
    )
    return ViTModel(config).eval()


def make_small(recipe: str, method, count: int) -> tuple[nn.Module, object]:
    """A model with the recipe's prompt, as deep as it may be there, and its data."""
    prompt = dataclasses.asdict(method.prompt)
    if recipe.startswith("long_tail/"):
        labels = [index % (len(CLASSES) - 1) for index in range(count - 1)] + [len(CLASSES) - 1]  # the last is rare
        data = [{"pixel_values": torch.randn(3, 16, 16), "labels": torch.tensor(label)} for label in labels]
        method.training.class_counts = [labels.count(label) for label in range(len(CLASSES))]
        return get_peft_model(copy.deepcopy(small_vit()), ViTPromptConfig(class_names=CLASSES, **prompt)), data
    template = prompt.pop("class_template")
    depths = {"text_depth": min(prompt["text_depth"], 2), "vision_depth": min(prompt["vision_depth"], 1)}
    if prompt["coupled"]:
        depths["text_depth"] = 1
    config = CLIPPromptConfig(**{**prompt, **depths, "tokenizer_name_or_path": str(CLIP_PATH)})
    model = get_peft_model(copy.deepcopy(load_clip(torch.float32)), config)
    model.set_classes(CLASSES, load_processor(), template)
    if method.prompt.learns_in_image_tower:
        pixels = torch.randn(count, 3, 48, 48)
        return model, [{"pixel_values": each, "labels": torch.tensor(i % 5)} for i, each in enumerate(pixels)]
    return model, make_data(count, torch.float32)


@functools.cache
def vit_b_16(kind: str) -> nn.Module:
    """A model of the published size, without weights."""
    with torch.device("meta"):
        if kind == "vit":
            return ViTModel(ViTConfig())
        towers = {"text_config": {}, "vision_config": {"patch_size": 16}}
        return CLIPModel(CLIPConfig(**towers))


def count_at_vit_b_16(recipe: str, method) -> int:
    """The trained parameters with ViT-B/16, and for a head 100 classes."""
    prompt = dataclasses.asdict(method.prompt)
    if recipe.startswith("long_tail/"):
        kind, config = "vit", ViTPromptConfig(num_labels=100, **prompt)
    else:
        prompt.pop("class_template")
        words = len((prompt["text_init"] or "").split())
        kind, config = "clip", CLIPPromptConfig(**prompt, text_init_token_ids=[320] * words)
    model = get_peft_model(copy.deepcopy(vit_b_16(kind)), config)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def steps_of(rule: str, samples: int) -> int:
    """⌊N/32⌋ or ⌈N/128⌉ for N samples."""
    bracket, size = re.fullmatch(r"([⌊⌈])N/(\d+)[⌋⌉]", rule).groups()
    return (math.floor if bracket == "⌊" else math.ceil)(samples / int(size))


def test_the_page_has_every_recipe():
    """Otherwise a recipe is there that nobody compared with its paper's code."""
    assert sorted(TABLE) == NAMES
    text = PAGE.read_text()
    for recipe in NAMES:
        assert text.count(f"| `{recipe}` |") == 2, f"{recipe} has numbers, and a line on what it follows"
        header = [line for line in (RECIPES / f"{recipe}.yaml").read_text().splitlines() if line[:1] == "#"]
        assert any(line.startswith("# Follows: ") for line in header)
        assert any(line.startswith("# Differs: ") for line in header)


@pytest.mark.parametrize("recipe", NAMES)
def test_what_is_run_is_what_the_page_says(recipe, tmp_path):
    """Otherwise a run under a paper's name has another optimizer, schedule or number of steps."""
    row, method = TABLE[recipe], read_recipe(recipe, tmp_path)
    epochs, batch = int(row["epochs"]), int(row["batch"])
    training, samples = method.training, 2 * batch + max(batch // 2, 1)
    if isinstance(training.objectives, dict) and "nfl" in training.objectives:
        training.objectives["nfl"]["novel_class_names"] = NOVEL  # the script's part: its data set's own
    arguments = {"eval_strategy": "no", "logging_strategy": "no", "seed": 1, "dataloader_pin_memory": False}
    for name, value in arguments.items():
        setattr(training, name, value)
    model, data = make_small(recipe, method, samples)
    trainer = SharpPromptTrainer(model, training, train_dataset=data, callbacks=[])
    observer = Observer(trainer)
    trainer.add_callback(observer)
    trainer.train()

    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    by_epoch = {}
    for epoch, groups in observer.steps:
        held = {id(parameter) for group in groups for parameter in group["params"]}
        assert held == {id(parameter) for parameter in trained}
        for group in groups:
            if group["params"]:
                assert (group["momentum"], group["weight_decay"]) == (
                    float(row["momentum"]),
                    float(row["weight decay"]),
                )
                assert (group["nesterov"], group["dampening"]) == (False, 0)
                by_epoch.setdefault(epoch, []).append(group["lr"])
    assert trainer.state.max_steps == epochs * steps_of(row["steps an epoch"], samples)
    assert {epoch: len(rates) for epoch, rates in by_epoch.items()} == dict.fromkeys(
        range(RUN_EPOCHS), steps_of(row["steps an epoch"], samples)
    )
    for epoch in range(RUN_EPOCHS, epochs):  # the same scheduler, without the steps
        trainer.lr_scheduler.set_epoch(epoch)
        by_epoch[epoch] = [trainer.optimizer.param_groups[0]["lr"]]
    rate = float(row["epoch 1"])
    expected = [float(row["epoch 0"])] + [
        rate * (1 + math.cos(math.pi * (e - 1) / epochs)) / 2 for e in range(1, epochs)
    ]
    for epoch, rates in by_epoch.items():
        assert rates == pytest.approx([expected[epoch]] * len(rates), rel=1e-12)
    assert float(row["last epoch"]) == pytest.approx(expected[-1], rel=5e-3)
    assert row["trained"] == f"{count_at_vit_b_16(recipe, method):,}"
