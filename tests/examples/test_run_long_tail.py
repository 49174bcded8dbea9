"""The long-tailed experiment as a user types it, and its recipes."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from support.demo_images import make_folder

from hf_sharp_prompt import ViTPromptConfig, demo
from hf_sharp_prompt.experiments import long_tail
from hf_sharp_prompt.experiments.methods import parse_methods
from hf_sharp_prompt.experiments.recipes import RECIPES, read_recipe


NAMES = sorted(path.stem for path in (RECIPES / "long_tail").glob("*.yaml"))
SMALL = ["--max_per_class", "4", "--imbalance_factor", "4", "--seeds", "1", "--num_train_epochs", "2"]
SMALL += ["--eval_split", "validation", "--recipes", "vpt_imbsam", "rsam_pt", "--reweighting_epochs", "1"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command with arguments and returns what it prints."""
    monkeypatch.setenv("COLUMNS", "200")
    verbosity = transformers.utils.logging.get_verbosity()

    def run(*arguments: object) -> str:
        assert long_tail.main([*map(str, arguments), "--use_cpu"]) == 0
        return capsys.readouterr().out

    yield run
    transformers.utils.logging.set_verbosity(verbosity)


def parse_arguments(arguments):
    return parse_methods(long_tail.argument_groups(), "", arguments)


def make_experiment(arguments):
    args, methods = parse_arguments(arguments)
    return long_tail.LongTail(args.dataset[0], args, methods[0].training)


def test_the_demo_runs_and_its_adapters_are_what_was_measured(run, tmp_path, caplog):
    """Run, look at the results, run again: nothing is computed twice, and nothing of another run is overwritten."""
    printed = run(*SMALL, "--output_dir", tmp_path)
    assert "24 classes" in printed
    assert all(word in printed for word in ("overall", "many", "medium", "few", "ECE", "vpt_imbsam", "rsam_pt"))
    assert "Every adapter was loaded back when its run ended and reached what was measured" in printed
    directory = tmp_path / demo.LONG_TAIL_TASK.name
    results = json.loads((directory / "summary.json").read_text())
    assert results["rsam_pt"][0]["evaluations_per_step"] == 1, "what the paper promises"
    assert 1 < results["vpt_imbsam"][0]["evaluations_per_step"] < 3, "of rare classes' images alone a second time"
    for (result,) in results.values():
        assert all(0 <= result[name] <= 1 for name in ("overall", "many", "medium", "few", "ece"))
        assert Path(result["adapter"], "adapter_model.safetensors").is_file()
        card = Path(result["adapter"], "README.md").read_text()
        assert f"| overall | {result['overall']:.4f} |" in card
    assert "| loss | gcl |" in card
    assert (directory / "accuracy_by_group.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("checkpoint-*"))

    run(*SMALL, "--output_dir", tmp_path)
    assert caplog.text.count("is finished and not run again") == 2
    assert json.loads((directory / "summary.json").read_text()) == results

    with pytest.raises(ValueError, match=r"holds another run: .*counts was \[4, "):
        run(*SMALL, "--output_dir", tmp_path, "--imbalance_factor", "2")


@pytest.mark.parametrize("recipe", NAMES)
@pytest.mark.parametrize("dataset", [demo.LONG_TAIL_TASK.name, "me/photos"])
def test_a_recipe_is_read(recipe, dataset, tmp_path):
    """Each value reaches the run; a misspelt one would train with a default and nobody would know."""
    arguments = ["--recipes", recipe, "--dataset", dataset, "--output_dir", str(tmp_path), "--use_cpu"]
    args, (method,) = parse_arguments(arguments)
    path = RECIPES / "long_tail" / f"{recipe}.yaml"
    values = read_recipe(recipe, RECIPES / "long_tail").resolve(args.on_demo)
    for name, value in values.items():
        assert getattr(method.prompt if hasattr(method.prompt, name) else method.training, name) == value
    assert method.training.make_sharpness_rule([100, 1]).name == values["sharpness"]
    ViTPromptConfig(num_labels=24, **vars(method.prompt))
    assert [line[0] for line in path.read_text().splitlines()[:2]] == ["#", "#"], "two lines on method and figures"


def test_an_argument_may_need_what_the_recipe_sets(tmp_path):
    """Epoch 50 is beyond the Trainer's own default of three epochs, but not beyond the recipe's 70."""
    arguments = ["--recipes", "rsam_pt", "--dataset", "me/photos", "--reweighting_epochs", "50", "--use_cpu"]
    _, (method,) = parse_arguments([*arguments, "--output_dir", str(tmp_path)])
    assert method.training.reweighting_epochs == [50]


def test_cifar_is_prepared_as_its_authors_do(tmp_path):
    """Otherwise RSAM-PT is trained and tested on other images: its mean, its deviation, its crops."""
    arguments = ["--output_dir", str(tmp_path), "--use_cpu", "--max_per_class", "10", "--imbalance_factor", "5"]
    crop, cifar = (make_experiment([*arguments, "--preprocessing", name]) for name in ("crop", "cifar"))
    assert cifar.collator.image_processor.image_mean == [0.4914, 0.4822, 0.4465]
    assert cifar.train_collator.image_processor.image_std == [0.2023, 0.1994, 0.2010]
    assert type(cifar.train_collator.augment).__name__ == "CIFARAugmentation"
    assert cifar.evaluation.pixel_values.shape == crop.evaluation.pixel_values.shape
    assert not torch.allclose(cifar.evaluation.pixel_values, crop.evaluation.pixel_values, atol=0.1)


def test_groups_follow_the_convention_of_the_benchmark(tmp_path):
    """CIFAR100-LT's groups are of so many classes each, those of iNaturalist and Places-LT of so many images."""

    def groups(*arguments: str) -> dict:
        args, _ = parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", *arguments])
        experiment = long_tail.LongTail.__new__(long_tail.LongTail)
        experiment.args, experiment.counts = args, [1] * 100
        experiment.profile = long_tail.find_profile(args, experiment.counts)
        return experiment.find_groups()

    assert groups() == {"group_sizes": [36, 35, 29]}
    assert groups("--profile", "none") == {"train_counts": [1] * 100}
    assert groups("--group_sizes", "50", "30", "20") == {"group_sizes": [50, 30, 20]}


def test_classes_that_are_imbalanced_as_they_come_keep_their_images(tmp_path):
    """iNaturalist 2018 would otherwise be cut down to as many images as its rarest class has."""
    folder = make_folder(tmp_path / "shapes", classes=3, train=3, test=1)
    arguments = ["--dataset", str(folder), "--output_dir", str(tmp_path / "runs"), "--use_cpu"]
    assert make_experiment([*arguments, "--imbalance_factor", "3"]).counts == [3, 1, 1]
    (folder / "train" / "black_circle" / "0.png").unlink()
    imbalanced = make_experiment(arguments)
    assert imbalanced.counts == [2, 3, 3]
    assert imbalanced.find_groups() == {"train_counts": [2, 3, 3]}
    assert imbalanced.setting() == {}
    capped = make_experiment([*arguments, "--profile", "exponential", "--imbalance_factor", "2"])
    assert capped.counts == [2, 1, 1]
    with pytest.raises(ValueError, match="the classes keep the 2 to 3 training images that they have"):
        make_experiment([*arguments, "--imbalance_factor", "2"])


def test_runs_know_the_profile_that_was_found_and_not_how_it_was_asked_for(tmp_path):
    """Otherwise a directory of the demo's exponential profile could not be continued by default."""
    balanced = ["--output_dir", str(tmp_path), "--use_cpu", "--max_per_class", "5"]
    arguments = [*balanced, "--imbalance_factor", "5"]
    found, asked = make_experiment(arguments), make_experiment([*arguments, "--profile", "exponential"])
    assert found.identity == asked.identity
    assert found.setting() == asked.setting() == {"exponential imbalance": "5"}
    assert (found.counts[0], found.counts[-1]) == (5, 1)
    assert found.identity != make_experiment([*balanced, "--profile", "none"]).identity


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipes", "rsam"],
            "There is no recipe 'rsam'; did you mean 'rsam_pt'.* Give the path of a YAML file, or one of: ce, rsam_pt",
        ),
        (["--imbalance_factor", "1000"], "the smallest class would have none; lower the imbalance to at most 100"),
        (["--reweighting_epochs", "99"], "reweighting_epochs has 99, but the last of"),
        (["--imbalance_factor", "0"], "--imbalance_factor must be at least 1, got 0."),
        (["--seeds", "1", "1"], "--seeds has 1 more than once"),
        (["--eval_split", "dev"], "has no dev split; it has"),
        (["--group_sizes", "36"], "--group_sizes takes three numbers"),
    ],
)
def test_a_wrong_argument_is_answered_with_what_would_be_right(arguments, message, run, tmp_path):
    with pytest.raises(ValueError, match=message):
        run("--output_dir", tmp_path, *arguments)
