"""The command line of the study."""

import json
from dataclasses import replace

import pytest

from hf_sharp_prompt.study import command
from hf_sharp_prompt.study.choices import with_choices
from hf_sharp_prompt.study.plan import SUITES, read_plan


def all_chosen(plan):
    """The plan as it is when all candidates have been run."""
    methods = {
        name: replace(method, chosen=method.candidates[0]) if method.candidates else method
        for name, method in plan.methods.items()
    }
    return replace(plan, methods=methods)


PLAN = all_chosen(read_plan())


def runs_of(commands):
    """The recipes, tasks and seeds of commands."""
    found = []
    for each in commands:
        words = list(each.words)
        seeds = words[words.index("--seeds") + 1 : words.index("--recipes")]
        recipes = [word.rpartition("/")[2].removesuffix(".yaml") for word in words if word.endswith(".yaml")]
        task = words[words.index("--dataset") + 1]
        found += [(recipe, task, int(seed)) for recipe in recipes for seed in seeds]
    return found


def test_together_the_parts_run_every_method_on_every_task_with_every_seed(tmp_path):
    commands = [each for part in ("seeds", "contexts", "designs") for each in command.PARTS[part](PLAN, tmp_path)]
    tasks = [task for suite in SUITES.values() for task in suite]
    expected = {
        (name, task, seed)
        for name, method in PLAN.methods.items()
        for task in tasks
        for seed in range(1, method.seeds + 1)
    }
    runs = runs_of(commands)
    assert {*runs} == expected
    assert len(runs) == len(expected), "no run is asked for twice"


def test_the_headline_is_a_share_of_all_runs(tmp_path):
    headline = {*runs_of(command.PARTS["headline"](PLAN, tmp_path))}
    assert headline < {*runs_of(command.PARTS["seeds"](PLAN, tmp_path))}
    assert {seed for _, _, seed in headline} == {1}


def test_explanations_are_of_contexts_alone(tmp_path):
    commands = command.PARTS["explanations"](PLAN, tmp_path)
    assert {each.module for each in commands} == {
        "hf_sharp_prompt.study.explanations",
        "hf_sharp_prompt.study.landscapes",
    }
    methods = {name for name, _, _ in runs_of(commands)}
    assert methods == {name for name, method in PLAN.methods.items() if method.learns_a_context}


def test_a_report_needs_no_runs(tmp_path, capsys):
    assert command.main(["--parts", "report", "--output_dir", str(tmp_path)]) == 0
    assert "report.md has all tables" in capsys.readouterr().out
    assert (tmp_path / "report.md").is_file()


def test_a_command_that_fails_is_named_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    words = {"good": ("--help",), "bad": ("no_such_file",)}
    parts = {
        name: lambda plan, output_dir, name=name: [command.Command(name, words[name], "json.tool")] for name in words
    }
    monkeypatch.setattr(command, "PARTS", parts)
    assert command.main(["--parts", "bad", "good", "--processes", "1", "--output_dir", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "bad: bad failed, exit code 2" in printed
    assert "good: good is done" in printed
    assert "Failed commands: 1" in printed


@pytest.mark.parametrize("words", [["--processes", "0"], ["--parts", "nothing"]])
def test_a_wrong_word_is_named(words, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert words[1] in capsys.readouterr().err


@pytest.mark.parametrize("part", ["trajectories", "explanations"])
def test_modules_of_the_study_take_a_protocols_arguments(part, tmp_path):
    """The protocol's own name is not among them."""
    for each in command.PARTS[part](PLAN, tmp_path):
        assert each.module.startswith("hf_sharp_prompt.study.")
        assert each.words[0] == "--dataset"


def write_candidates(output_dir, accuracies):
    """What the runs of coop_rwp's candidates leave."""
    runs = {f"coop_rwp_{value:g}": [{"seed": 1, "base": each, "novel": each}] for value, each in accuracies.items()}
    for task in PLAN.hyperparameter_tasks:
        path = output_dir / "hyperparameters" / task / "summary.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(runs))


def test_methods_wait_for_their_hyperparameters(tmp_path):
    method = replace(PLAN.methods["coop_rwp"], chosen=None)
    plan = replace(PLAN, methods={**PLAN.methods, "coop_rwp": method})
    with pytest.raises(ValueError, match="chosen for coop_rwp; run the part hyperparameters first"):
        command.PARTS["contexts"](plan, tmp_path)
    write_candidates(tmp_path, {0.01: 0.5, 0.05: 0.7, 0.1: 0.6, 0.2: 0.4})
    completed = with_choices(plan, tmp_path)
    assert completed.methods["coop_rwp"].chosen == 0.05
    assert completed.methods["coop_sam"] == PLAN.methods["coop_sam"], "what the plan says stays"
    command.PARTS["contexts"](completed, tmp_path)
    assert "gamma: 0.05" in (tmp_path / "recipes" / "methods" / "coop_rwp.yaml").read_text()


def test_the_report_shows_what_the_candidates_chose_in_the_same_call(tmp_path, monkeypatch, caplog):
    """The part hyperparameters has just run them."""
    method = replace(PLAN.methods["coop_rwp"], chosen=None)
    monkeypatch.setattr(command, "read_plan", lambda: replace(PLAN, methods={"coop_rwp": method}))
    monkeypatch.setattr(command, "PARTS", {"hyperparameters": lambda plan, output_dir: []})

    def run_candidates(commands, processes, directory):
        write_candidates(tmp_path, {0.01: 0.5, 0.05: 0.7, 0.1: 0.6, 0.2: 0.4})
        return []

    monkeypatch.setattr(command, "run", run_candidates)
    assert command.main(["--parts", "hyperparameters", "--output_dir", str(tmp_path)]) == 0
    assert "**0.05: 70.0**" in (tmp_path / "report.md").read_text()
    assert "The rule chooses" not in caplog.text
