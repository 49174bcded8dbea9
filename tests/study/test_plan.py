"""The plan: recipes, settings and what was chosen."""

import pytest

from hf_sharp_prompt import demo
from hf_sharp_prompt.experiments.recipes import RECIPES, list_recipes, read_recipe
from hf_sharp_prompt.study.choices import Tried
from hf_sharp_prompt.study.commands import base2novel, hyperparameter_commands, long_tail_commands, setting_commands
from hf_sharp_prompt.study.plan import SUITES, read_plan, with_value


PLAN = read_plan()


def test_every_recipe_is_studied():
    assert {*PLAN.methods} == {name for name in list_recipes() if "/" not in name}


def test_both_suites_are_studied():
    assert {task for tasks in SUITES.values() for task in tasks} == {*demo.FAMILIAR_TASKS, *demo.UNFAMILIAR_TASKS}


def test_what_is_chosen_is_a_candidate():
    assert PLAN.setting in PLAN.settings
    assert PLAN.setting.num_train_epochs <= PLAN.max_epochs
    for name, method in PLAN.methods.items():
        assert len(method.candidates) <= 4, name
        assert method.chosen is None or method.chosen in method.candidates, name


@pytest.mark.parametrize("name", PLAN.methods)
def test_a_method_is_its_recipe_with_the_setting_and_its_hyperparameter(name):
    method = PLAN.methods[name]
    candidate = method.candidates[-1] if method.candidates else None
    values = method.values(PLAN.setting, candidate)
    assert values["num_train_epochs"] == PLAN.setting.num_train_epochs
    if method.learns_a_context:
        assert values["num_text_tokens"] == PLAN.setting.num_text_tokens
        assert values["learning_rate"] == PLAN.setting.learning_rate
    if method.hyperparameter:
        found = values
        for part in method.hyperparameter.split("."):
            found = found[part]
        assert found == candidate
    recipe = read_recipe(name, RECIPES).resolve(on_demo=True)
    may_differ = {
        *PLAN.setting.context,
        *(path.split(".")[0] for path in (*method.fixed, method.hyperparameter or "")),
    }
    assert {key: value for key, value in values.items() if key not in may_differ} == {
        key: value for key, value in recipe.items() if key not in may_differ
    }


@pytest.mark.parametrize("part", ["gnm", "drw", "gcl"])
def test_a_part_of_rsam_pt_is_taken_away_alone(part):
    whole, without = PLAN.long_tail.values("rsam_pt"), PLAN.long_tail.values(f"rsam_pt_without_{part}")
    changed = {key for key in whole if whole[key] != without[key]}
    parts = {
        "gnm": {"sharpness", "sharpness_args"},
        "drw": {"reweighting_epochs", "reweighting_beta"},
        "gcl": {"loss", "loss_args"},
    }
    assert changed == parts[part]


def test_a_value_is_changed_at_its_path_alone():
    values = {"a": {"b": 1, "c": 2}, "d": 3}
    assert with_value(values, ["a", "b"], 9) == {"a": {"b": 9, "c": 2}, "d": 3}
    assert values["a"]["b"] == 1, "a copy is changed"
    assert with_value({"a": None}, ["a", "b"], 9) == {"a": {"b": 9}}


def test_commands_name_recipes_that_can_be_read(tmp_path):
    commands = [*setting_commands(PLAN, tmp_path), *hyperparameter_commands(PLAN, tmp_path)]
    paths = {word for command in commands for word in command.words if word.endswith(".yaml")}
    candidates = sum(len(method.candidates) for method in PLAN.methods.values())
    assert len(paths) == len({setting.name for setting in PLAN.settings}) + candidates
    for path in paths:
        assert read_recipe(path).values["num_train_epochs"] >= 30
    assert len({command.name for command in commands}) == len(commands), "each has a log of its own"


def test_long_tails_are_run_at_every_imbalance_with_every_seed(tmp_path):
    words = [command.words for command in long_tail_commands(PLAN, tmp_path)]
    told = {(each[each.index("--imbalance_factor") + 1], each[each.index("--seeds") + 1]) for each in words}
    assert told == {(str(imbalance), str(seed)) for imbalance in (50, 100, 200) for seed in range(1, 6)}
    recipes = [read_recipe(path).values for path in words[0] if path.endswith(".yaml")]
    assert [values["num_train_epochs"] for values in recipes] == [20] * len(PLAN.long_tail.methods)


def test_a_command_says_all_that_a_run_needs(tmp_path):
    command = base2novel("texture_shape_photo", ["a.yaml"], 4, [1, 2], tmp_path, "test", ("--eval_strategy", "no"))
    assert command.words[0] == "base2novel"
    assert " ".join(command.words).endswith("--eval_split test --eval_strategy no --save_strategy no")


def test_rises_and_falls_are_told_in_points():
    found = Tried(PLAN.setting, [60, 62, 61.5], [62, 63, 60])
    assert (found.base_rise, found.base_fall, found.novel_fall) == (2, 0.5, 3)
