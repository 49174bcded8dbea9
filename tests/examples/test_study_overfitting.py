"""The study of overfitting: the papers' tables and figures from one command."""

import json
import re

import pytest
from PIL import Image
from support.demo_images import few_images

from hf_sharp_prompt.experiments import clip, overfitting
from hf_sharp_prompt.experiments.recipes import RECIPES
from hf_sharp_prompt.experiments.results import in_percent


SMALL = ["--dataset", "colour_shape_tint", "--shots", "1", "--max_steps", "2", "--use_cpu"]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(overfitting, "POINTS", 3)
    return overfitting


def test_tables_and_figures_come_from_one_command(study, monkeypatch, tmp_path, capsys):
    arguments = [*SMALL, "--recipes", "coop", "gcscoop", "kgcoop", "--seeds", "1", "2", "--output_dir", str(tmp_path)]
    arguments += ["--eval_strategy", "steps", "--eval_steps", "1"]
    monkeypatch.setattr(clip, "load_image_dataset", lambda *_, **__: few_images(4, train=2, test=2))
    assert study.main(arguments) == 0
    assert "colour_shape_tint, 1 shots" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())["colour_shape_tint"]
    assert [len(summary[name]) for name in ("zero-shot", "coop", "gcscoop")] == [1, 2, 2]
    assert all(-1 <= cosine <= 1 for run in summary["gcscoop"] for cosine in run["cosines"])
    assert not any(run["cosines"] for run in summary["coop"])
    lengths = {name: len(summary[name][0]["history"]["base"]) for name in ("coop", "kgcoop")}
    assert lengths == {"coop": 2, "kgcoop": 1}, "what no figure shows is measured at the end alone"
    tables = (tmp_path / "tables.md").read_text()
    assert f"| gcscoop | {in_percent([run['base'] for run in summary['gcscoop']])} |" in re.sub(" +", " ", tables)
    assert f"| gcscoop | {in_percent([run['hm'] for run in summary['gcscoop']])} |" in re.sub(" +", " ", tables)
    assert "python examples/study_overfitting.py --dataset" in (tmp_path / "README.md").read_text()
    for figure in ("accuracy_by_epoch.png", "angles.png", "colour_shape_tint/landscapes.png"):
        assert Image.open(tmp_path / figure).width > 300


def test_without_arguments_every_method_runs_on_every_task(study):
    arguments = study.with_defaults(["--seeds", "1"])
    recipes = {path.stem for path in RECIPES.glob("*.yaml")}
    assert recipes < set(arguments)
    assert arguments[arguments.index("--dataset") + 1] == "all"
    assert study.with_defaults(["--dataset=mine"]).count("--dataset") == 0, "what is given stays"


def test_a_figure_shows_means_over_data_sets(study):
    histories = [{"base": [0.2, 0.4], "novel": [0.5, 0.5]}, {"base": [0.4, 0.8], "novel": [0.7, 0.3]}]
    averaged = study.average_history(histories)
    assert averaged == {"base": pytest.approx([0.3, 0.6]), "novel": pytest.approx([0.6, 0.4])}
