"""Every recipe says what it means: it is read without complaint, as the paper has it and on the demo."""

from pathlib import Path

import pytest
from support.demo_images import few_images
from support.loaded_once import load_models_once

from hf_sharp_prompt import CLIPPromptConfig, demo
from hf_sharp_prompt.experiments import base_to_novel, clip, runs
from hf_sharp_prompt.experiments.images import class_names
from hf_sharp_prompt.experiments.methods import parse_methods
from hf_sharp_prompt.experiments.recipes import OWN, RECIPES, read_recipe


NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def parse_arguments(arguments):
    return parse_methods(base_to_novel.argument_groups(), "", arguments)


@pytest.mark.parametrize("recipe", NAMES)
@pytest.mark.parametrize("dataset", ["all", "me/photos"])
def test_it_is_read(recipe, dataset, tmp_path):
    arguments = ["--recipes", recipe, "--dataset", dataset, "--output_dir", str(tmp_path), "--use_cpu"]
    _, (method,) = parse_arguments(arguments)
    values = read_recipe(recipe).resolve(on_demo=dataset == "all")
    if "nfl" in (method.training.objectives or {}):
        method.training.objectives["nfl"]["novel_class_names"] = ["grey moon"]  # as the script does for `own`
    made = {each.name for each in method.training.make_objectives()}
    made.add(method.training.make_sharpness_rule().name)
    assert made - {"none"} == {*(values.get("objectives") or ()), values["sharpness"]} - {"none"}
    assert method.training.subspace_rank == values.get("subspace_rank")
    fields = vars(method.prompt)
    assert all(fields[name] == values[name] for name in fields.keys() & values.keys())
    CLIPPromptConfig(**{name: value for name, value in fields.items() if name != "class_template"})
    assert method.training.learning_rate == values["learning_rate"]
    text = (RECIPES / f"{recipe}.yaml").read_text().splitlines()
    assert [line[0] for line in text[:2]] == ["#", "#"], "two lines on the method and its figures"


@pytest.mark.parametrize("recipe", NAMES)
def test_it_starts_on_the_demo(recipe, experiment, tmp_path):
    """A method that is only described is none; two steps of each, on a few images, and its prompts are measured."""
    arguments = ["--recipes", recipe, "--output_dir", str(tmp_path), "--use_cpu", "--dataloader_num_workers", "0"]
    if "subspace_epochs" in read_recipe(recipe).values:
        arguments += ["--num_train_epochs", "3", "--subspace_epochs", "3", "--subspace_rank", "2"]
    else:
        arguments += ["--max_steps", "2"]
    _, (method,) = parse_arguments(arguments)
    experiment.directory = tmp_path
    result = runs.do(experiment.make_run(method, seed=1))
    assert 0 <= result["hm"] <= 1
    assert (Path(result["adapter"]) / "adapter_model.safetensors").is_file()
    assert len(result["cosines"]) <= len(result["history"]["base"]) == len(result["history"]["novel"]) <= 3


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """One for all methods, as a script makes it."""
    arguments = ["--shots", "2", "--output_dir", str(tmp_path_factory.mktemp("runs")), "--use_cpu"]
    args, methods = parse_arguments([*arguments, "--dataloader_num_workers", "0"])
    with pytest.MonkeyPatch.context() as patch:
        splits = few_images(6, train=2, validation=2, test=2)
        patch.setattr(clip, "load_image_dataset", lambda *_, **__: splits)
        load_models_once(patch)
        yield base_to_novel.BaseToNovel(demo.DEFAULT_TASK, args, methods[0].training)


def test_novel_names_may_be_the_data_sets_own(experiment):
    """Otherwise NFL's base-to-novel runs hold back other classes than its authors'."""
    nfl = {"novel_class_names": OWN, "weight": 2.0}
    filled = experiment.with_novel_class_names({"nfl": nfl, "kgcoop": None})
    assert filled == {
        "nfl": {**nfl, "novel_class_names": class_names(experiment.evaluation_pixels["novel"])},
        "kgcoop": None,
    }
    assert nfl["novel_class_names"] == OWN, "another data set has others"
    assert experiment.with_novel_class_names("kgcoop") == "kgcoop"
