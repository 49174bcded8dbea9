"""Recipes that build on others say only what differs, and a rule or an objective on a recipe needs no file."""

from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from hf_sharp_prompt.experiments import base_to_novel, long_tail
from hf_sharp_prompt.experiments.methods import parse_methods
from hf_sharp_prompt.experiments.recipes import RECIPES, list_recipes, read_recipe


COOP = {
    "sharpness": "none",
    "design": "coop",
    "num_text_tokens": 4,
    "text_init": "a photo of a",
    "class_template": "{}.",
    "optim": "sgd",
    "optim_args": "momentum=0.9",
    "weight_decay": 0.0005,
    "learning_rate": 0.002,
    "epoch_schedule": "cosine",
    "first_epoch_learning_rate": 1e-5,
    "num_train_epochs": 200,
    "per_device_train_batch_size": 32,
    "drop_last_train_batch": True,
    "max_grad_norm": 0,
}
COOP_ON_DEMO = COOP | {"learning_rate": 0.01, "num_train_epochs": 20}


@pytest.fixture
def read(tmp_path):
    """Writes a recipe `mine.yaml`, and others by name, and reads it."""

    def read(text: str, on_demo: bool = False, **others: str) -> dict:
        for name, content in {"mine": text, **others}.items():
            (tmp_path / f"{name}.yaml").write_text(content)
        return read_recipe(str(tmp_path / "mine.yaml")).resolve(on_demo)

    return read


def test_a_published_recipe_is_complete_whatever_it_builds_on():
    """Otherwise a paper's run changes where another recipe does."""
    gcsam = {"sharpness": "gcsam", "sharpness_args": {"rho": 0.1, "low": 0.5, "high": 0.8}}
    nfl = {"weight": 1.0, "novel_class_names": "own", "templates": ["imagenet_80", "a photo of a {}."]}
    published = read_recipe("gcscoop_nfl")
    assert published.resolve(on_demo=False) == COOP | gcsam | {
        "per_device_train_batch_size": 128,
        "objectives": {"nfl": nfl},
    }
    assert published.resolve(on_demo=True) == COOP_ON_DEMO | gcsam | {
        "objectives": {"nfl": {"novel_class_names": "texture_shape_fog", "templates": "a photo of a {}."}},
    }
    random_init = {name: value for name, value in COOP.items() if name != "text_init"}
    subpt = {"num_text_tokens": 16, "num_train_epochs": 100, "subspace_epochs": 30, "subspace_rank": 10}
    assert read_recipe("subpt").resolve(on_demo=False) == random_init | subpt
    assert read_recipe("vpt_shallow").resolve(on_demo=True)["vision_depth"] == 1


def test_each_data_set_of_the_authors_of_rsam_pt_is_trained_alike():
    published = read_recipe("rsam_pt", RECIPES / "long_tail").resolve(on_demo=False)
    for name in ("rsam_pt_inaturalist2018", "rsam_pt_places_lt"):
        recipe = read_recipe(name, RECIPES / "long_tail")
        assert recipe.resolve(on_demo=False) == recipe.resolve(on_demo=True) == published


@pytest.mark.parametrize("name", list_recipes())
def test_no_recipe_repeats_its_base(name):
    """What is said twice is changed once."""
    said = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    if "base" in said:
        base = read_recipe(said.pop("base"), (RECIPES / name).parent)
        demo = said.pop("demo", None) or {}
        assert not {key for key in said if base.values.get(key) == said[key]}
        assert not {key for key in demo.keys() - said.keys() if base.demo.get(key) == demo[key]}


def test_a_value_replaces_the_bases_also_on_the_demo(read):
    """Otherwise a learning rate in one's own recipe has no effect where the script runs by default."""
    text = "base: coop\nlearning_rate: 0.5\n"
    assert read(text) == COOP | {"learning_rate": 0.5}
    assert read(text, on_demo=True) == COOP_ON_DEMO | {"learning_rate": 0.5}
    text += "demo:\n  learning_rate: 0.25\n"
    assert read(text, on_demo=True) == COOP_ON_DEMO | {"learning_rate": 0.25}


def test_another_rule_drops_the_hyperparameters_of_the_bases_rule(read):
    assert "sharpness_args" not in read("base: gcscoop\nsharpness: asam\n")
    assert read("base: gcscoop\nsharpness_args: {rho: 1.0}\n")["sharpness"] == "gcsam"
    assert read("base: theirs.yaml\nsharpness: sam\n", True, theirs="demo: {sharpness_args: {low: 0.1}}") == {
        "sharpness": "sam"
    }


def test_null_takes_back_what_the_base_says(read):
    assert "text_init" not in read("base: coop\ntext_init: null\n")
    assert read("base: coop\ndemo: null\n", on_demo=True) == COOP
    assert read("text_init: null\n") == {"text_init": None}, "without a base, null is a value"


def test_a_base_is_a_name_or_a_path_from_the_recipes_folder(read, tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "lowest.yaml").write_text("base: coop\nseed: 1\n")
    monkeypatch.chdir("/")
    assert read("base: middle.yaml\nlogging_steps: 2\n", middle="base: below/lowest.yaml\n") == COOP | {
        "seed": 1,
        "logging_steps": 2,
    }
    assert read("base: coop+asam\n") == COOP | {"sharpness": "asam"}


@pytest.mark.parametrize(
    ("text", "others", "message"),
    [
        ("base: mine.yaml\n", {}, r"mine.yaml builds on itself: mine.yaml → mine.yaml\."),
        ("base: b.yaml\n", {"b": "base: mine.yaml"}, r"builds on itself: mine.yaml → b.yaml → mine.yaml\."),
        ("base: coup\n", {}, r"There is no recipe 'coup'; did you mean 'coop'\?.* .*mine.yaml builds on it\."),
        ("base: 3\n", {}, r"mine.yaml builds on 3; give the name or the path of one recipe\."),
        ("base: coop\ndemo: 3\n", {}, r"mine.yaml must map arguments to values"),
    ],
)
def test_a_base_that_cannot_be_is_named(read, text, others, message):
    with pytest.raises(ValueError, match=message):
        read(text, **others)


def test_a_rule_on_a_recipe_needs_no_file():
    """And has its paper's hyperparameters, not those of the recipe's rule."""
    recipe = read_recipe("coop+asam")
    assert recipe.name == "coop+asam"
    assert recipe.resolve(on_demo=True) == COOP_ON_DEMO | {"sharpness": "asam"}
    assert "sharpness_args" not in read_recipe("gcscoop+asam").values


@pytest.mark.parametrize("on_demo", [False, True])
def test_an_objective_is_added_to_those_of_the_recipe(on_demo):
    chosen = read_recipe("subpt_nfl+sam+kgcoop").resolve(on_demo)
    assert list(chosen["objectives"]) == ["nfl", "kgcoop"]
    assert (chosen["sharpness"], chosen["objectives"]["kgcoop"]) == ("sam", {})


def test_a_part_reaches_the_run(tmp_path):
    arguments = ["--output_dir", str(tmp_path), "--use_cpu", "--recipes"]
    _, methods = parse_methods(base_to_novel.argument_groups(), "", [*arguments, "coop+asam", "coop+nfl", "coop+saf"])
    asam, nfl, saf = (method.training for method in methods)
    assert [method.name for method in methods] == ["coop+asam", "coop+nfl", "coop+saf"]
    assert asam.make_sharpness_rule().rho == 0.5
    assert nfl.objectives == {"nfl": {"novel_class_names": "own"}}
    assert [each.name for each in saf.make_objectives()] == ["saf"]
    _, (ldam,) = parse_methods(long_tail.argument_groups(), "", [*arguments, "ce+ldam"])
    assert ldam.training.loss == "ldam"


def test_a_path_may_have_a_plus(tmp_path):
    path = tmp_path / "c++" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("base: coop\n")
    assert read_recipe(str(path)).values == COOP
    assert read_recipe(f"{path}+asam").name == "mine+asam"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("coop+asm", r"no sharpness rule, objective or loss 'asm' to add to coop; did you mean 'asam'\?"),
        ("coop+sam+asam", r"coop\+sam\+asam chooses sharpness twice, sam and asam"),
        ("kgcoop+kgcoop", r"kgcoop has the objective kgcoop already"),
        ("coup+asam", r"There is no recipe 'coup'"),
        ("coop+", r"There is no recipe 'coop\+'"),
    ],
)
def test_a_part_that_cannot_be_is_named(recipe, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(recipe)


def test_a_wheel_has_every_recipe():
    """Otherwise an installed package knows no method."""
    package = RECIPES.parent
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    packaged = setup["options.package_data"][package.name].split(", ")
    assert {path for pattern in packaged for path in package.glob(pattern)} >= set(RECIPES.rglob("*.yaml"))
