"""The curve over numbers of shots: all classes, any numbers, and more of them later."""

import json

import pytest

from hf_sharp_prompt.experiments import few_shot
from hf_sharp_prompt.experiments.methods import parse_methods


TASK = "colour_shape_tint"


def test_later_seeds_and_numbers_of_shots_are_added_to_the_curve(run, tmp_path, caplog):
    """Who runs three numbers of shots today and another seed tomorrow has one curve of all."""
    run(few_shot, "--shots", "1", "all", "--seeds", "1")
    directory = tmp_path / "out" / TASK
    first = (directory / "shots1" / "coop" / "seed1" / "metrics.json").read_text()
    printed = run(few_shot, "--shots", "1", "2", "--seeds", "1", "2")
    assert (directory / "shots1" / "coop" / "seed1" / "metrics.json").read_text() == first
    assert caplog.text.count("is finished and not run again") == 1
    assert all(heading in printed for heading in ("1 shot ", "2 shots", "all shots"))
    counts = {
        shots: len(json.loads((directory / f"shots{shots}" / "summary.json").read_text())["coop"])
        for shots in ("1", "2", "all")
    }
    assert counts == {"1": 2, "2": 2, "all": 1}
    assert (directory / "accuracy_by_shots.png").read_bytes().startswith(b"\x89PNG")
    index = (tmp_path / "out" / "README.md").read_text()
    assert "| method | 1 shot | 2 shots | all shots | n |" in index
    assert index.count("sharp-prompt few_shot ") == 2, "both commands"
    assert f"PeftModel.from_pretrained(base, '{TASK}/shots1/coop/seed1')" in index


def test_shots_are_of_all_classes_and_all_are_all(run, tmp_path):
    run(few_shot, "--shots", "2", "all", "--seeds", "1")
    results = {}
    for path in (tmp_path / "out" / TASK).glob("shots*"):
        results[path.name] = json.loads((path / "summary.json").read_text())
        card = (path / "coop" / "seed1" / "README.md").read_text()
        assert ("8 images" if path.name == "shots2" else "12 images") in card.replace("training ", "")
    for of in results.values():
        assert of["zero-shot"][0].keys() == {"accuracy", "ece"}
        assert 0 <= of["coop"][0]["ece"] <= 1


def parse(*arguments):
    return parse_methods(few_shot.argument_groups(), "", [*arguments, "--use_cpu", "--recipes", "coop"])


def make(tmp_path, *arguments):
    args, (method,) = parse("--output_dir", str(tmp_path), "--seeds", "1", *arguments)
    return {
        each.args.shots: each.training_of(method, 1).num_train_epochs
        for each in few_shot.make_experiments(args, method.training)
    }


def test_epochs_go_by_shots(run, tmp_path):
    """CoOp's figures are of 50, 100 and 200 epochs; the demo's curve takes minutes because all shots take few."""
    shots = ["--shots", "1", "4", "all"]
    assert make(tmp_path, *shots, "--epochs_by_shots", "5", "10", "20") == {"1": 5, "4": 10, "all": 20}
    assert make(tmp_path, *shots) == {"1": 20, "4": 10, "all": 2}, "on the demo"
    assert make(tmp_path, *shots, "--dataset", "halved") == {"1": 200, "4": 200, "all": 200}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "0"], "--shots must be at least 1, got 0."),
        (["--shots", "4", "-1"], "--shots must be at least 1, got -1."),
        (["--shots", "many"], "--shots takes whole numbers and 'all', got 'many'."),
        (["--shots", "1.5"], "--shots takes whole numbers and 'all', got '1.5'."),
        (["--shots", "04"], "--shots takes whole numbers and 'all', got '04'."),
        (["--shots", "4", "4"], "--shots has 4 more than once"),
        (["--shots", "all", "all"], "--shots has all more than once"),
        (["--seeds", "2", "2"], "--seeds has 2 more than once"),
        (["--shots", "1", "2", "--epochs_by_shots", "5"], "--epochs_by_shots has 1 numbers, but --shots 2"),
        (["--shots", "1", "--epochs_by_shots", "0"], "--epochs_by_shots must be at least 1, got 0."),
    ],
)
def test_a_wrong_number_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(*arguments)
