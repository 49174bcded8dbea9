"""`sharp-prompt train`: from a folder of images to an adapter."""

import json

import pytest
from inference.conftest import NAMES, SHORT
from peft import PeftConfig
from support.demo_images import make_folder
from support.progress import progress_in, without_progress

from hf_sharp_prompt.experiments.manuals.train import MANUAL
from hf_sharp_prompt.objectives import nfl
from hf_sharp_prompt.objectives.templates import read_templates


def test_a_folder_of_three_classes_is_all_it_takes(folder, run, tmp_path):
    """Base-to-novel experiments halve the classes, and one class is too few to be told apart."""
    code, printed, said = run("train", "--dataset", folder, "--recipes", "gcscoop", "--output_dir", tmp_path, *SHORT)
    assert code == 0, said
    assert "shapes: 3 classes, 12 training images; measured on the test split." in printed
    adapter = tmp_path / "shapes" / "gcscoop" / "seed1"
    assert printed.splitlines()[-1].endswith(f"ADAPTER: {adapter}")
    assert PeftConfig.from_pretrained(adapter).class_names == NAMES
    assert 0 <= json.loads((adapter / "metrics.json").read_text())["accuracy"] <= 1
    assert progress_in(said)[0] == {"stage": "starting"}
    assert without_progress(said) == "", "nothing is warned of"


def test_without_a_test_split_all_images_are_learned_from(run, tmp_path):
    """Two classes of two images: none can be held out."""
    folder = make_folder(tmp_path / "two", classes=2, train=2, test=1) / "train"
    code, printed, said = run("train", "--dataset", folder, "--output_dir", tmp_path / "runs", *SHORT)
    assert code == 0, said
    assert (
        "train: 2 classes, 4 training images; measured on the training images, as there is no test split." in printed
    )


def test_images_that_are_left_out_are_listed_in_a_file(run, tmp_path):
    """A warning names the first twenty, which is not enough to repair a collection."""
    folder = make_folder(tmp_path / "shapes", classes=3, train=2, test=1)
    broken = [folder / "train" / "black_heart" / "0.png", folder / "test" / "black_cross" / "0.png"]
    for path in broken:
        path.write_text("no image")
    words = ["--dataset", folder, "--recipes", "coop", "--output_dir", tmp_path / "runs", "--on_bad_image", "skip"]
    _, printed, _ = run("train", *words, *SHORT)
    listed = tmp_path / "runs" / "shapes" / "skipped_images.jsonl"
    assert f"{listed} lists 2 images that are left out." in printed
    images = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [each["path"] for each in images] == [*map(str, broken)]
    assert images[0] == {
        "dataset": str(folder),
        "split": "train",
        "row": 4,
        "path": str(broken[0]),
        "reason": f"The image {broken[0]} cannot be decoded (it is no image); repair or remove it.",
    }
    assert "- `shapes/skipped_images.jsonl`: " in (tmp_path / "runs" / "README.md").read_text()


def test_each_seed_makes_an_adapter(folder, run, tmp_path):
    words = ["--dataset", folder, "--recipes", "coop", "--seeds", 1, 2, "--shots", 1, "--output_dir", tmp_path]
    _, printed, _ = run("train", *words, *SHORT)
    one, two = (tmp_path / "shapes" / "coop" / f"seed{seed}" for seed in (1, 2))
    assert printed.splitlines()[-1].endswith(f"ADAPTER: {one} or {two}")
    assert (one / "adapter_model.safetensors").read_bytes() != (two / "adapter_model.safetensors").read_bytes()


def test_a_recipe_with_negative_classes_takes_those_of_imagenet(folder, run, tmp_path, monkeypatch):
    """All classes of the data set are trained on, so it has no others; and zero-shot CLIP needs no objective."""
    monkeypatch.setattr(nfl, "read_templates", lambda *words: read_templates(*words)[:2])  # of 80, for a hundred names
    words = ["--dataset", folder, "--recipes", "gcscoop_nfl", "--output_dir", tmp_path, *SHORT]
    code, printed, said = run("train", *words)
    assert code == 0, printed + said
    settings = json.loads((tmp_path / "shapes" / "gcscoop_nfl" / "seed1" / "_settings.json").read_text())
    assert settings["objectives"]["nfl"]["novel_class_names"] == "imagenet_100"


def test_a_recipe_of_a_long_tail_trains_a_vision_transformer(trained_vit):
    assert PeftConfig.from_pretrained(trained_vit).peft_type == "VIT_PROMPT"
    assert PeftConfig.from_pretrained(trained_vit).class_names == NAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipes", "coop", "gcscoop"], "train makes an adapter of one of --recipes, got 2: coop, gcscoop."),
        (["--recipes", "long_tail/cee"], "There is no recipe 'cee'; did you mean 'ce'?"),
        (["--recipes", "long_tail/ce", "--preprocessing", "cifar"], "--preprocessing cifar is for experiments"),
        (["--shots", "0"], "--shots must be at least 1, got 0."),
        (["--eval_split", "validation"], "has no validation split; it has train, test."),
    ],
)
def test_what_makes_no_adapter_is_refused_in_a_sentence(words, message, folder, run, tmp_path):
    code, _, said = run("train", "--dataset", folder, "--output_dir", tmp_path, *words)
    assert code == 2
    assert message in said
    assert len(without_progress(said).splitlines()) == 1


def test_one_class_is_refused(run, tmp_path):
    folder = make_folder(tmp_path / "one", classes=1, train=2, test=1)
    code, _, said = run("train", "--dataset", folder, "--output_dir", tmp_path / "runs")
    assert code == 2
    assert "Classification needs at least two classes" in said


def test_help_is_the_short_manual(run):
    code, printed, said = run("train", "--help")
    assert (code, said) == (0, "")
    assert all(f"--{name}" in printed for name in MANUAL.options)
    assert "--adam_beta1" not in printed
    assert "--adam_beta1" in run("train", "--help_all")[1]
