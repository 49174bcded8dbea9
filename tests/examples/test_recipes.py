"""Every recipe says what it means: it is read without complaint, as the paper has it and on the demo."""

from pathlib import Path

import pytest
from support.demo_images import few_images

from hf_sharp_prompt import CLIPPromptConfig, demo
from hf_sharp_prompt.experiments import base_to_novel, command_line, runs


EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(path.stem for path in (EXAMPLES / "recipes").glob("*.yaml"))


def parse_arguments(arguments):
    return base_to_novel.parse_arguments(arguments, EXAMPLES / "recipes", "")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dataset", ["all", "me/photos"])
def test_it_is_read(recipe, dataset, tmp_path):
    arguments = ["--recipes", recipe, "--dataset", dataset, "--output_dir", str(tmp_path), "--use_cpu"]
    _, (method,) = parse_arguments(arguments)
    values = command_line.read_recipe(EXAMPLES / "recipes" / f"{recipe}.yaml", on_demo=dataset == "all")
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
    text = (EXAMPLES / "recipes" / f"{recipe}.yaml").read_text().splitlines()
    assert [line[0] for line in text[:2]] == ["#", "#"], "two lines on the method and its figures"


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_starts_on_the_demo(recipe, experiment, tmp_path):
    """A method that is only described is none; two steps of each, on a few images, and its prompts are measured."""
    arguments = ["--recipes", recipe, "--output_dir", str(tmp_path), "--use_cpu", "--dataloader_num_workers", "0"]
    if "subspace_epochs" in (EXAMPLES / "recipes" / f"{recipe}.yaml").read_text():
        arguments += ["--num_train_epochs", "3", "--subspace_epochs", "3", "--subspace_rank", "2"]
    else:
        arguments += ["--max_steps", "2"]
    _, (method,) = parse_arguments(arguments)
    experiment.directory = tmp_path
    result = runs.do(base_to_novel.make_run(experiment, method, seed=1))
    assert 0 <= result["hm"] <= 1
    assert (Path(result["adapter"]) / "adapter_model.safetensors").is_file()
    assert len(result["cosines"]) <= len(result["history"]["base"]) == len(result["history"]["novel"]) <= 3


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """One for all methods, as a script makes it."""
    output_dir = str(tmp_path_factory.mktemp("runs"))
    args = parse_arguments(["--shots", "2", "--output_dir", output_dir])[0]
    with pytest.MonkeyPatch.context() as patch:
        splits = few_images(6, train=2, validation=2, test=2)
        patch.setattr(base_to_novel, "load_image_dataset", lambda *_: splits)
        yield base_to_novel.Experiment(demo.DEFAULT_TASK, args, output_dir, 0)


def test_novel_names_may_be_the_data_sets_own(experiment):
    """Otherwise NFL's base-to-novel runs hold back other classes than its authors'."""
    nfl = {"novel_class_names": base_to_novel.OWN, "weight": 2.0}
    filled = experiment.fill_in({"nfl": nfl, "kgcoop": None})
    assert filled == {
        "nfl": {**nfl, "novel_class_names": base_to_novel.class_names(experiment.evaluation_pixels["novel"])},
        "kgcoop": None,
    }
    assert nfl["novel_class_names"] == base_to_novel.OWN, "another data set has others"
    assert experiment.fill_in("kgcoop") == "kgcoop"
