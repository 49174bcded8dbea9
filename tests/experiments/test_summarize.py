"""Tables of any results: against hand-made numbers, in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from hf_sharp_prompt.experiments import index, summarize
from hf_sharp_prompt.experiments.published import all_published
from hf_sharp_prompt.experiments.recipes import list_recipes
from hf_sharp_prompt.experiments.record import Record
from hf_sharp_prompt.experiments.results import ADAPTER_FILES, IDENTITY_NAME, RESULT_NAME, checksums, write_json
from hf_sharp_prompt.experiments.summary import gather, make_tables


ROOT = Path(__file__).parents[2]
HALVES = {"base": "base", "novel": "novel", "HM": "hm", "base ECE": "base_ece", "novel ECE": "novel_ece"}
CODE = ["from transformers import CLIPModel", "", "base = CLIPModel.from_pretrained('openai/clip')"]


def halves(base: float, novel: float, ece: float = 0.1) -> dict[str, float]:
    hm = 2 * base * novel / (base + novel)
    return {"base": base, "novel": novel, "hm": hm, "base_ece": ece, "novel_ece": 2 * ece}


def make_experiment(
    directory: Path, protocol: str = "base2novel", columns=HALVES, setting=None, model: str = "a", **fields
) -> Path:
    """A directory as a protocol leaves it, without runs."""
    setting = {"shots": 16} if setting is None else setting
    identity = {"model_fingerprint": model, **setting}
    dataset = fields.pop("dataset", directory.name)
    Record(protocol, dataset, setting, dict(columns), identity, CODE, **fields).write(directory)
    return directory


def add_run(directory: Path, method: str, seed: int, values: dict) -> None:
    run = directory / method / f"seed{seed}"
    run.mkdir(parents=True)
    for name in ADAPTER_FILES:
        (run / name).write_text(f"{name} {seed}")
    write_json(run / IDENTITY_NAME, json.loads((directory / "experiment.json").read_text())["identity"])
    write_json(run / RESULT_NAME, {**values, "seed": seed, "seconds": 1.0, "files": checksums(run)})


@pytest.fixture
def two_data_sets(tmp_path) -> Path:
    """Two data sets, two methods, two seeds; the second method is missing on the second data set."""
    for name, shift in (("pets", 0.0), ("cars", 0.2)):
        directory = make_experiment(tmp_path / "runs" / name, baselines={"zero-shot": [halves(0.5, 0.6)]})
        for seed, base in ((1, 0.7), (2, 0.74)):
            add_run(directory, "coop", seed, halves(base - shift, 0.6))
    add_run(tmp_path / "runs" / "pets", "gcscoop", 1, halves(0.8, 0.5))
    return tmp_path / "runs"


def tables_of(*directories: Path) -> dict[str, list[list[str]]]:
    """The Markdown tables, by title, as cells."""
    found, title = {}, ""
    for line in summarize.FORMATS["markdown"](make_tables(gather(directories))).splitlines():
        if line.startswith("### "):
            title = line[4:]
        elif line.startswith("| ") and "---" not in line:
            found.setdefault(title, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_means_deviations_and_numbers_of_runs_are_right(two_data_sets):
    tables = tables_of(two_data_sets)
    heading, zero_shot, coop, gcscoop = tables["base2novel: pets, 16 shots"]
    assert heading == ["method", "base", "novel", "HM", "base ECE", "novel ECE", "n"]
    assert zero_shot == ["zero-shot", "50.0", "60.0", "54.5", "10.0", "20.0", "1"]
    assert coop == ["coop", "72.0 ± 2.8", "60.0 ± 0.0", "65.4 ± 1.2", "10.0 ± 0.0", "20.0 ± 0.0", "2"]
    assert gcscoop == ["gcscoop", "80.0", "50.0", "61.5", "10.0", "20.0", "1"]


def test_the_mean_of_data_sets_stands_beside_published_figures(two_data_sets):
    """HM is that of the mean accuracies, as in the papers; a method that is missing on a data set has no mean."""
    heading, zero_shot, coop = tables_of(two_data_sets)["base2novel: mean of 2 data sets, 16 shots"]
    assert heading[-1] == "published base / novel / HM"
    assert zero_shot[-1] == "69.3 / 74.2 / 71.7"
    assert coop[1:3] == ["62.0 ± 2.8", "60.0 ± 0.0"]
    assert coop[-1] == "82.7 / 63.2 / 71.7"
    text = summarize.FORMATS["markdown"](make_tables(gather([two_data_sets])))
    assert "Published: ViT-B/16, 16 shots, mean of 11 data sets (" in text


def test_a_data_set_alone_stands_beside_the_published_mean(tmp_path):
    add_run(make_experiment(tmp_path / "pets"), "coop", 1, halves(0.7, 0.6))
    (table,) = tables_of(tmp_path).values()
    assert table[1][-1] == "82.7 / 63.2 / 71.7"


def test_variants_of_imagenet_stand_beside_the_published_figures(tmp_path):
    """In the columns of the variants that were measured."""
    targets = {name: f"target {name}" for name in ("imagenet_r", "imagenetv2")}
    columns = {"imagenet": "source", **targets, "mean of targets": "mean_of_targets"}
    directory = make_experiment(tmp_path / "imagenet", "domain_generalization", columns)
    add_run(directory, "cocoop", 1, dict.fromkeys(columns.values(), 0.5))
    ((heading, row),) = tables_of(tmp_path).values()
    assert heading[-1] == "published imagenet_r / imagenetv2 / mean of targets"
    assert row[-1] == "76.2 / 64.1 / 59.9"


def test_a_figure_that_no_paper_has_is_a_dash(tmp_path):
    """Zero-shot CLIP's are of another table than CoOp's; otherwise the command would end in an error."""
    columns = {"imagenet": "source", "caltech101": "target caltech101", "mean of targets": "mean_of_targets"}
    directory = make_experiment(tmp_path / "imagenet", "cross_dataset", columns)
    for method in ("zero-shot", "coop"):
        add_run(directory, method, 1, dict.fromkeys(columns.values(), 0.5))
    ((_, *rows),) = tables_of(tmp_path).values()
    assert {row[0]: row[-1].count("–") for row in rows} == {"zero-shot": 2, "coop": 0}


def test_directories_of_the_same_experiment_are_one_table(tmp_path, caplog):
    """Seeds that ran on two machines belong together, and a seed that both have counts once."""
    for machine, seeds in (("one", (1, 2)), ("two", (2, 3))):
        directory = make_experiment(tmp_path / machine / "pets")
        for seed in seeds:
            add_run(directory, "coop", seed, halves(0.7 + seed / 100, 0.6))
    with caplog.at_level(logging.WARNING):
        (table,) = tables_of(tmp_path / "one", tmp_path / "two", tmp_path / "two").values()
    assert table[1][1:2] + table[1][6:7] == ["72.0 ± 1.0", "3"]
    assert caplog.text.count("both hold seed 2 of coop") == 1


def test_a_run_of_another_experiment_is_left_out_and_named_once(tmp_path, caplog):
    directory = make_experiment(tmp_path / "pets")
    add_run(directory, "coop", 1, halves(0.7, 0.6))
    add_run(directory, "gcscoop", 1, halves(0.8, 0.6))
    write_json(directory / "gcscoop" / "seed1" / IDENTITY_NAME, {"model_fingerprint": "b", "shots": 16})
    for _ in range(2):
        (table,) = tables_of(tmp_path).values()
        assert [row[0] for row in table] == ["method", "coop"]
    assert caplog.text.count("gcscoop/seed1 is left out of the summary: it differs in model_fingerprint.") == 1


def test_another_model_is_another_table(tmp_path):
    for model in ("a", "b"):
        add_run(make_experiment(tmp_path / model / "pets", model=model), "coop", 1, halves(0.7, 0.6))
    assert len(tables_of(tmp_path)) == 2


def test_few_shot_results_are_one_table_over_the_shots(tmp_path):
    for shots, accuracy in ((16, 0.9), (2, 0.6), ("all", 0.95), (1, 0.5)):
        directory = make_experiment(
            tmp_path / "pets" / f"shots{shots}",
            *("few_shot", {"accuracy": "accuracy", "ECE": "ece"}, {"shots": shots}),
            dataset="pets",
            baselines={"zero-shot": [{"accuracy": 0.4, "ece": 0.1}]},
        )
        add_run(directory, "coop", 1, {"accuracy": accuracy, "ece": 0.1})
    (table,) = tables_of(tmp_path).values()
    assert table == [
        ["method", "1 shot", "2 shots", "16 shots", "all shots", "n"],
        ["zero-shot", "40.0", "40.0", "40.0", "40.0", "1"],
        ["coop", "50.0", "60.0", "90.0", "95.0", "1"],
    ]


def test_what_is_undefined_is_a_dash_and_no_number(tmp_path):
    """Without a class of more than 100 images there is no many-shot accuracy."""
    columns = {"overall": "overall", "many": "many"}
    directory = make_experiment(tmp_path / "cifar100", "long_tail", columns, {})
    add_run(directory, "rsam_pt", 1, {"overall": 0.9, "many": float("nan")})
    assert "NaN" not in (directory / "rsam_pt" / "seed1" / RESULT_NAME).read_text()
    (table,) = tables_of(tmp_path).values()
    assert table[1] == ["rsam_pt", "90.0", "–", "1", "90.3"]
    rows = list(csv.DictReader(io.StringIO(summarize.FORMATS["csv"](make_tables(gather([tmp_path]))))))
    assert [(row["column"], row["mean"], row["published"]) for row in rows] == [
        ("overall", "90", "90.3"),
        ("many", "", ""),
    ]


def test_csv_has_a_line_for_each_method_and_column(two_data_sets):
    rows = list(csv.DictReader(io.StringIO(summarize.FORMATS["csv"](make_tables(gather([two_data_sets]))))))
    (row,) = [r for r in rows if r["table"].startswith("pets") and (r["method"], r["column"]) == ("coop", "base")]
    assert (float(row["mean"]), row["n"], row["protocol"]) == (pytest.approx(72), "2", "base2novel")
    assert float(row["deviation"]) == pytest.approx(2.82843)


def test_latex_has_no_sign_that_would_stop_it(tmp_path):
    add_run(make_experiment(tmp_path / "my_pets & 50%"), "coop_sam", 1, halves(0.7, 0.6))
    text = summarize.FORMATS["latex"](make_tables(gather([tmp_path])))
    assert r"my\_pets \& 50\%" in text
    assert r"coop\_sam & 70.0 & 60.0" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert text.count("{") == text.count("}")


def test_the_command_prints_or_writes(two_data_sets, tmp_path, capsys):
    assert summarize.main([str(two_data_sets)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("### ") == 3
    assert summarize.main([str(two_data_sets), "--format", "latex", "--output_dir", str(tmp_path / "paper")]) == 0
    assert (tmp_path / "paper" / "tables.tex").read_text().count(r"\begin{tabular}") == 3


def test_the_command_draws_each_experiment_and_each_curve(tmp_path):
    shots = make_experiment(tmp_path / "a" / "shots1", "few_shot", {"accuracy": "accuracy"}, {"shots": 1}, dataset="a")
    add_run(shots, "coop", 1, {"accuracy": 0.5})
    columns = {"a": "source", "b": "target b", "mean of targets": "mean_of_targets"}
    crossed = make_experiment(tmp_path / "crossed", "cross_dataset", columns)
    add_run(crossed, "coop", 1, {"source": 0.5, "target b": 0.2, "mean_of_targets": 0.2})
    history = {"history": {"base": [0.6, 0.7], "novel": [0.6, 0.6]}}
    add_run(make_experiment(tmp_path / "pets"), "coop", 1, halves(0.7, 0.6) | history)
    assert summarize.main([str(tmp_path), "--output_dir", str(tmp_path / "paper")]) == 0
    assert {path.name for path in (tmp_path / "paper").glob("*.png")} == {
        "few_shot_a.png",
        "cross_dataset_crossed_16_shots.png",
        "base2novel_pets_16_shots.png",
    }


@pytest.mark.parametrize("make", [True, False])
def test_nothing_to_summarize_is_said(make, tmp_path):
    directory = tmp_path / "nothing"
    if make:
        directory.mkdir()
    with pytest.raises(ValueError, match=r"There are no results in|There is no directory"):
        summarize.main([str(directory)])


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "experiment.json").write_text('{"protocol": "base2novel"}')
    with pytest.raises(ValueError, match=r"experiment\.json does not describe an experiment"):
        gather([tmp_path])


def test_a_foreign_name_is_text(tmp_path):
    """A directory's name must be neither markup nor a command to the terminal."""
    add_run(make_experiment(tmp_path / "x", dataset="a|b<b>\x1b[31m"), "coop", 1, halves(0.7, 0.6))
    text = summarize.FORMATS["markdown"](make_tables(gather([tmp_path])))
    assert "\x1b" not in text
    assert r"a\|b\<b\>\\x1b\[31m" in text


def test_the_index_leaves_a_file_of_the_users_alone(two_data_sets, caplog):
    path = two_data_sets / index.INDEX_NAME
    path.write_text("# Mine\n")
    index.write_index(two_data_sets)
    assert path.read_text() == "# Mine\n"
    assert "is a file of yours" in caplog.text
    path.unlink()
    index.write_index(two_data_sets)
    index.write_index(two_data_sets)
    text = path.read_text()
    assert "METHOD: coop, gcscoop." in text
    assert "model = PeftModel.from_pretrained(base, 'cars/coop/seed1')" in text


def test_published_figures_are_of_recipes_and_say_where_they_are_from():
    """A misspelt recipe would stand beside nothing, and a figure without a source could not be checked."""
    recipes = {name.rpartition("/")[2] for name in list_recipes()} | {"zero-shot"}
    for entry in all_published():
        assert set(entry.methods) <= recipes
        assert entry.of
        assert entry.source
        assert all(0 < figure < 100 for method in entry.methods for figure in entry.figures_of(method).values())


def test_published_harmonic_means_are_those_of_the_accuracies():
    """A wrong digit shows."""
    for entry in all_published():
        for method in entry.methods if "hm" in entry.columns else ():
            figures = entry.figures_of(method)
            hm = 2 * figures["base"] * figures["novel"] / (figures["base"] + figures["novel"])
            assert figures["hm"] == pytest.approx(hm, abs=0.6), method


def test_published_means_are_those_of_the_targets():
    """A wrong digit shows here, too."""
    means = []
    for entry in all_published():
        targets = [column for column in entry.columns if column.startswith("target ")]
        for method in entry.methods if targets else ():
            figures = entry.figures_of(method)
            means.append(figures["mean_of_targets"])
            assert means[-1] == pytest.approx(sum(figures[each] for each in targets) / len(targets), abs=0.01), method
    assert means


def test_it_does_without_torch(two_data_sets):
    """Its import takes seconds."""
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hf_sharp_prompt", "summarize", str(two_data_sets)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.count("### ") == 3
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "yaml" in imported
    assert not imported & {"torch", "transformers", "datasets", "accelerate", "matplotlib"}
