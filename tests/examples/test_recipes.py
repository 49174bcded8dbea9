"""Every recipe says what it means: it is read without complaint, as the paper has it and on the demo."""

import importlib.util
import sys
from pathlib import Path

import pytest

from hf_sharp_prompt import CLIPPromptConfig


EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(path.stem for path in (EXAMPLES / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def example():
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("run_base2novel", EXAMPLES / "run_base2novel.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_base2novel"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dataset", ["all", "me/photos"])
def test_it_is_read(recipe, dataset, example, tmp_path):
    arguments = ["--recipes", recipe, "--dataset", dataset, "--output_dir", str(tmp_path), "--use_cpu"]
    _, (method,) = example.parse_arguments(arguments)
    values = example.read_recipe(EXAMPLES / "recipes" / f"{recipe}.yaml", on_demo=dataset == "all")
    made = {each.name for each in method.training.make_objectives()}
    assert made == set(values.get("objectives") or ())
    assert method.training.make_sharpness_rule().name == values["sharpness"]
    assert method.training.subspace_rank == values.get("subspace_rank")
    fields = vars(method.prompt)
    assert all(fields[name] == values[name] for name in fields.keys() & values.keys())
    CLIPPromptConfig(**{name: value for name, value in fields.items() if name != "class_template"})
    assert method.training.learning_rate == values["learning_rate"]
    text = (EXAMPLES / "recipes" / f"{recipe}.yaml").read_text().splitlines()
    assert [line[0] for line in text[:2]] == ["#", "#"], "two lines on the method and its figures"
