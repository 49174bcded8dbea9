"""Runs and their results: what counts as the same run, what a failure costs, and what is written."""

import functools
import json
import os
import shutil
import signal
from pathlib import Path

import datasets
import pytest
from support.demo_images import few_images
from transformers import CLIPModel, CLIPTokenizer

from hf_sharp_prompt import demo
from hf_sharp_prompt.data import protocols
from hf_sharp_prompt.experiments import base_to_novel, clip, runs
from hf_sharp_prompt.experiments.results import in_percent, write_json
from hf_sharp_prompt.tuners.image_encoder import ImageEncoder


SMALL = ["--shots", "1", "--max_steps", "2", "--use_cpu", "--eval_strategy", "no", "--save_strategy", "no"]


four_classes = functools.partial(few_images, 4, train=2, test=2)


def load_few(dataset: str, **loading: object) -> datasets.DatasetDict:
    return datasets.load_from_disk(dataset) if Path(dataset).exists() else four_classes()


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs the main job with arguments; returns its exit code and what it prints."""
    monkeypatch.setenv("COLUMNS", "200")
    load = pytest.MonkeyPatch()
    load.setattr(clip, "load_image_dataset", load_few)
    load.setattr(base_to_novel.BaseToNovel, "draw", lambda *_: None)  # test_run_base2novel.py has its figure

    def run(*arguments: object) -> tuple[int, str]:
        words = [*SMALL, "--output_dir", str(tmp_path), *map(str, arguments)]
        return base_to_novel.main(words), capsys.readouterr().out

    yield run
    load.undo()


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / demo.DEFAULT_TASK


def test_a_second_method_is_added_to_the_summary(run, directory):
    """Who runs one method today and another tomorrow compares both."""
    assert run("--recipes", "coop", "--seeds", "1")[0] == 0
    code, printed = run("--recipes", "gcscoop", "--seeds", "1")
    assert code == 0
    assert list(json.loads((directory / "summary.json").read_text())) == ["zero-shot", "gcscoop", "coop"]
    assert "coop" in printed


def test_a_failed_run_costs_no_other_and_is_reported(run, directory, monkeypatch):
    measure = runs.check_same

    def fail_for_seed_1(measured, reloaded, of):
        if of.seed == 1:
            raise RuntimeError("the first is wrong")
        measure(measured, reloaded, of)

    monkeypatch.setattr(runs, "check_same", fail_for_seed_1)
    code, printed = run("--recipes", "coop", "--seeds", "1", "2")
    assert code == 1
    assert "FAILED: RuntimeError: the first is wrong" in printed
    assert "coop (1 of 2 failed)" in printed
    assert "Every adapter was loaded back" not in printed
    failed, finished = json.loads((directory / "summary.json").read_text())["coop"]
    assert failed == {"seed": 1, "failed": "RuntimeError: the first is wrong"}
    assert 0 <= finished["hm"] <= 1
    assert "Traceback" in (directory / "coop" / "seed1" / "_error.txt").read_text()

    monkeypatch.undo()
    words = [*SMALL, "--output_dir", str(directory.parent), "--recipes", "coop", "--seeds", "1", "2"]
    assert base_to_novel.main(words) == 0, "the same command tries it again"
    assert not (directory / "coop" / "seed1" / "_error.txt").exists()


def test_runs_side_by_side_are_the_same_runs(run, directory):
    """Which way is faster depends on the machine; what comes out must not."""
    words = ["--recipes", "coop", "coop_sam", "--seeds", "1", "2"]
    assert run(*words, "--runs_at_once", "1")[0] == 0
    alone = contents(directory)
    shutil.rmtree(directory)
    assert run(*words, "--runs_at_once", "2")[0] == 0
    assert contents(directory) == alone
    assert list(json.loads((directory / "summary.json").read_text())) == ["zero-shot", "coop", "coop_sam"]


def contents(directory: Path) -> dict[str, object]:
    """The files of all runs by name, but for when they were made and how long it took."""
    files = {str(path.relative_to(directory)): path for path in directory.glob("*/seed*/*") if path.is_file()}
    found: dict[str, object] = {name: path.read_bytes() for name, path in files.items()}
    for name, path in files.items():
        if name.endswith("metrics.json"):
            found[name] = json.loads(path.read_text()) | {"seconds": 0}
        if name.endswith(("README.md", ".bin", "trainer_state.json")):
            del found[name]
    assert len(found) >= 4 * len({*directory.glob("*/seed*")}), "else nothing is compared"
    return found


def test_a_run_that_fails_beside_another_is_reported(run, directory, monkeypatch):
    def fail_for_seed_1(measured, reloaded, of):
        if of.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(runs, "check_same", fail_for_seed_1)
    code, printed = run("--recipes", "coop", "--seeds", "1", "2", "--runs_at_once", "2")
    assert code == 1
    assert "seed 1: FAILED: KilledError: The process ended without a result (killed by SIGKILL)" in printed
    failed, finished = json.loads((directory / "summary.json").read_text())["coop"]
    assert failed["failed"].startswith("KilledError")
    assert 0 <= finished["hm"] <= 1
    assert "SIGKILL" in (directory / "coop" / "seed1" / "_error.txt").read_text()


def test_methods_and_seeds_share_the_model_the_texts_and_the_features(run, monkeypatch):
    """Each takes seconds where models and data are large, and 2 methods with 2 seeds would take them 4 times."""
    loaded, images, texts = [], [], []
    load, encode, read = CLIPModel.from_pretrained, ImageEncoder.__call__, CLIPTokenizer.__call__
    monkeypatch.setattr(CLIPModel, "from_pretrained", lambda *args: loaded.append(args) or load(*args))

    def count_images(encoder, pixel_values):
        images.extend(image.numpy().tobytes() for image in pixel_values)
        return encode(encoder, pixel_values)

    def count_texts(tokenizer, text, **options):
        if isinstance(text, list):  # and not the words that a context starts from
            texts.append(tuple(text))
        return read(tokenizer, text, **options)

    monkeypatch.setattr(ImageEncoder, "__call__", count_images)
    monkeypatch.setattr(CLIPTokenizer, "__call__", count_texts)
    assert run("--recipes", "coop", "coop_sam", "--seeds", "1", "2", "--shots", "all")[0] == 0
    assert len(loaded) == 1
    assert len(images) == len({*images}) == len(base_to_novel_images()), "of both halves what is measured on"
    assert len(texts) == len({*texts})


def base_to_novel_images() -> list[object]:
    splits = four_classes()
    base, _ = protocols.base_to_novel(splits)
    return [*base["train"], *splits["test"]]


def test_a_run_that_failed_before_its_first_step_blocks_nothing(run, monkeypatch):
    monkeypatch.setattr(clip.CLIPExperiment, "make_trainer", lambda *_: 1 / 0)
    assert run("--recipes", "coop", "--seeds", "1")[0] == 1
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "200")
    assert run("--recipes", "coop", "--seeds", "1", "--learning_rate", "0.5")[0] == 0


def test_another_run_is_not_taken_for_the_same(run):
    run("--recipes", "coop", "--seeds", "1")
    for name, *value in (
        ("m_sharpness", "process"),
        ("reweighting_beta", "0.9"),
        ("train_sampling_strategy", "class_balanced"),
        ("num_text_tokens", "2"),
        ("bf16",),
    ):
        with pytest.raises(ValueError, match=rf"holds another run: .*{name} was "):
            run("--recipes", "coop", "--seeds", "1", f"--{name}", *value)
        with pytest.raises(ValueError, match=r"seed1 holds another run"):
            run("--recipes", "coop", "--seeds", "2", f"--{name}", *value)


def test_a_lost_adapter_is_trained_again_and_another_is_refused(run, directory, caplog):
    run("--recipes", "coop", "--seeds", "1")
    adapter = directory / "coop" / "seed1" / "adapter_model.safetensors"
    content = adapter.read_bytes()
    adapter.unlink()
    assert run("--recipes", "coop", "--seeds", "1")[0] == 0
    assert "has lost adapter_model.safetensors" in caplog.text
    assert adapter.read_bytes() == content
    adapter.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, printed = run("--recipes", "coop", "--seeds", "1")
    assert code == 1
    assert "is not what was measured" in printed


def test_data_that_changed_under_the_same_path_are_another_run(run, tmp_path):
    """And a trailing slash is the same data."""
    splits = four_classes()
    data = tmp_path / "data" / "mine"
    splits.save_to_disk(data)
    arguments = ["--recipes", "coop", "--seeds", "1", "--augmented_views", "0"]
    assert run(*arguments, "--dataset", data)[0] == 0
    code, printed = run(*arguments, "--dataset", f"{data}/")
    assert code == 0
    assert "mine, coop, seed 1" in printed
    splits["test"] = splits["test"].select([1, *range(1, len(splits["test"]))])
    data.rename(tmp_path / "data" / "old")
    splits.save_to_disk(data)
    with pytest.raises(ValueError, match="data_fingerprint was "):
        run(*arguments, "--dataset", data)


def test_a_killed_first_checkpoint_does_not_end_the_next_command(run, directory):
    """What a kill leaves while the first checkpoint is written is a folder without its last file."""
    left = directory / "coop" / "seed1" / "checkpoint-1"
    left.mkdir(parents=True)
    (left / "adapter_config.json").write_text("{")
    assert run("--recipes", "coop", "--seeds", "1", "--save_strategy", "steps", "--save_steps", "1")[0] == 0


def test_control_characters_and_markup_in_names_are_printed_as_text(run, tmp_path):
    splits = four_classes()
    splits.save_to_disk(tmp_path / "data" / "\x1b[31m[red]x[bold]")
    code, printed = run(
        "--recipes",
        "coop",
        "--seeds",
        "1",
        "--augmented_views",
        "0",
        "--dataset",
        tmp_path / "data" / "\x1b[31m[red]x[bold]",
    )
    assert code == 0
    assert "\x1b" not in printed
    assert "\\x1b[31m[red]x[bold], coop, seed 1" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1", "1"], "--seeds has 1 more than once"),
        (["--seeds"], "Argument --seeds: expected at least one argument"),
        (["--seeds", "-1"], r"--seeds must be from 0"),
        (["--seed", "3"], "give --seeds"),
        (["--shots", "0"], "--shots must be at least 1, got 0"),
        (["--num_train_epochs", "0", "--max_steps", "-1"], "num_train_epochs must be above 0"),
        (["--recipes", "coop", "coop"], "--recipes has 'coop' twice"),
        (["--dataset", "a/x", "b/x"], "--dataset has x more than once"),
        (["--model", str(demo.VIT_PATH)], "is a model of the type 'vit'"),
        (["--no_such_argument"], "--no_such_argument"),
    ],
)
def test_an_edge_value_is_refused_by_name(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)


@pytest.mark.parametrize("text", ["a: [", "- coop", "demo: 3", "1: 2", "learning_rate: fast"])
def test_a_file_that_is_no_recipe_is_refused_by_name(run, text, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml|learning_rate"):
        run("--recipes", tmp_path / "mine.yaml")


def test_json_is_valid_whatever_was_measured(tmp_path):
    write_json(tmp_path / "a.json", {"few": float("nan"), "all": [1.0, float("inf")]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"few": None, "all": [1.0, None]}
    assert in_percent([None, 0.5]) == "–"
