"""The main job as a user types it, on a folder of images."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers
from hub.client import connect
from hub.local_hub import LocalHub
from peft import PeftModel
from support.forks import start_fork
from support.progress import without_progress
from transformers import AutoProcessor, CLIPModel
from two_processes.examples import metrics

from hf_sharp_prompt import demo
from hf_sharp_prompt.data import ImageCollator, load_image_dataset
from hf_sharp_prompt.experiments import base_to_novel
from hf_sharp_prompt.experiments.failures import exit_code_of


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "run_base2novel.py"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--mixed_precision", "no"]
LAUNCH += ["--num_processes", "1", "--num_machines", "1", "--dynamo_backend", "no"]
SMALL = ["--shots", "4", "--seeds", "1", "--num_train_epochs", "3", "--augmented_views", "1"]


@pytest.fixture(scope="module")
def typed(folder, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """What the main job has done as it is typed: where its runs are, what it printed, and the Hub."""
    output_dir, home = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("home")
    command = [*LAUNCH, SCRIPT, "--dataset", folder, "--output_dir", output_dir, *SMALL, "--push_to_hub"]
    with LocalHub() as hub:
        finished = subprocess.run(
            [*map(str, command)],
            capture_output=True,
            text=True,
            timeout=300,
            env=hub.environment(home) | {"OMP_THREAD_LIMIT": "1", "COLUMNS": "200"},
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        yield SimpleNamespace(output_dir=output_dir, printed=finished.stdout, said=finished.stderr, hub=hub)


@pytest.fixture
def run(monkeypatch, capsys, caplog):
    """Runs the command in this process, which is many times faster than to start Python for it."""
    monkeypatch.setenv("COLUMNS", "200")
    verbosity = transformers.utils.logging.get_verbosity()

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        """What it prints, and what it says on stderr or logs."""
        caplog.clear()
        ended = exit_code_of(lambda: base_to_novel.main([*map(str, arguments)]))
        printed = capsys.readouterr()
        assert ended == code, printed.err + caplog.text
        return printed.out, printed.err + caplog.text

    yield run
    transformers.utils.logging.set_verbosity(verbosity)


def test_a_folder_of_images_is_all_it_takes(typed):
    assert all(method in typed.printed for method in ("zero-shot", "coop", "coop_sam", "gcscoop"))
    assert "Every adapter was loaded back" in typed.printed
    assert without_progress(typed.said) == "", "nothing is warned of"
    summary = next(typed.output_dir.glob("*/summary.json"))
    results = json.loads(summary.read_text())
    for method, of_method in results.items():
        for result in of_method:
            assert 0 <= result["base"] <= 1
            assert min(result["base"], result["novel"]) <= result["hm"] <= max(result["base"], result["novel"])
            assert method == "zero-shot" or len(result["history"]["base"]) == 3
            assert method == "zero-shot" or Path(result["adapter"], "adapter_model.safetensors").is_file()
    assert (summary.parent / "accuracy_by_epoch.png").read_bytes().startswith(b"\x89PNG")
    assert not list(typed.output_dir.rglob("checkpoint-*"))


def test_nothing_is_computed_twice_and_nothing_of_another_run_is_overwritten(typed, folder, run):
    """Run, look at the results, run again."""
    saved = {path: path.stat().st_mtime_ns for path in typed.output_dir.rglob("adapter_model.safetensors")}
    assert len(saved) == 3
    _, said = run("--dataset", folder, "--output_dir", typed.output_dir, *SMALL)
    assert said.count("is finished and not run again") == 3
    assert {path: path.stat().st_mtime_ns for path in saved} == saved

    _, said = run("--dataset", folder, "--output_dir", typed.output_dir, *SMALL, "--shots", "3", code=2)
    assert "holds another run: shots was 4 and is now 3. Choose another --output_dir or delete it." in said


def test_a_killed_run_continues_and_ends_the_same(folder, run, tmp_path):
    """SIGKILL in the middle of training costs at most an epoch."""
    arguments = ["--dataset", folder, *SMALL, "--recipes", "gcscoop", "--num_train_epochs", "10"]
    run(*arguments, "--output_dir", tmp_path / "whole")
    killed = start_fork(run, *arguments, "--output_dir", tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.join()
    assert list((tmp_path / "killed").rglob("checkpoint-*"))
    assert not list((tmp_path / "killed").rglob("metrics.json"))
    run(*arguments, "--output_dir", tmp_path / "killed")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_features_on_disk_are_read_by_the_next_run(folder, run, tmp_path):
    """Images are encoded once for all methods, seeds and later runs."""
    arguments = ["--dataset", folder, *SMALL, "--recipes", "coop", "--augmented_views", "2", "--cache_features"]
    _, said = run(*arguments, "--output_dir", tmp_path / "first")
    assert said.count("images' features are encoded into") == 3, "training, base and novel"
    _, said = run(*arguments, "--output_dir", tmp_path / "second")
    assert said.count("images' features are read from") == 3
    assert "encoded into" not in said
    assert metrics(tmp_path / "second") == metrics(tmp_path / "first")


@pytest.mark.parametrize("where", ["memory", "no"])
def test_what_learns_in_the_image_tower_sees_pixels(where, folder, run, tmp_path):
    """Beside a method whose images are encoded once, one whose image tower changes with every step."""
    (tmp_path / "vpt.yaml").write_text(
        "num_text_tokens: 0\nnum_vision_tokens: 2\nvision_depth: 2\nlearning_rate: 0.1\n"
    )
    arguments = ["--dataset", folder, "--shots", "4", "--seeds", "1", "--num_train_epochs", "2"]
    arguments += ["--recipes", "coop", tmp_path / "vpt.yaml", "--cache_features", where]
    printed, said = run(*arguments, "--output_dir", tmp_path / "runs")
    warned = "vpt learns tokens in the image tower: images are encoded in every step" in said
    assert warned == (where == "memory")
    assert "coop learns" not in said
    assert "Every adapter was loaded back when its run ended and reached what was measured" in printed
    (summary,) = (tmp_path / "runs").rglob("summary.json")
    assert {name: len(of[0]["history"]["base"]) for name, of in json.loads(summary.read_text()).items()} == {
        "zero-shot": 1,
        "coop": 2,
        "vpt": 2,
    }


def test_adapters_are_pushed_with_their_card_and_load_by_name(typed, folder, tmp_path, monkeypatch):
    """The prompts are of use to others only once they come back from the Hub by their name."""
    repository = "me/prompts-shapes-gcscoop-seed1"
    files = typed.hub.files(repository)
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= set(files)
    assert not any(name.startswith(("checkpoint", "_")) for name in files)
    assert str(folder) not in "".join(files[name].decode() for name in files if name.endswith((".json", ".md")))
    card = files["README.md"].decode()
    (measured,) = metrics(next(typed.output_dir.rglob("gcscoop"))).values()
    assert "GCSAM(rho=0.1, low=0.5, high=0.8)" in card
    assert f"| base\\_accuracy | {measured['base']:.4f} |" in card
    assert f'PeftModel.from_pretrained(base, "{repository}")' in card

    connect(typed.hub, tmp_path, monkeypatch)
    model = PeftModel.from_pretrained(CLIPModel.from_pretrained(demo.CLIP_PATH), repository).eval()
    test = load_image_dataset(str(folder))["test"].filter(lambda label: label < 2, input_columns="label")
    batch = ImageCollator(AutoProcessor.from_pretrained(demo.CLIP_PATH))(list(test))
    predicted = model(pixel_values=batch["pixel_values"]).logits.argmax(-1)
    assert (predicted == batch["labels"]).float().mean().item() == measured["base"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipes", "coup"],
            "There is no recipe 'coup'; did you mean 'coop'? Give the path of a YAML file, or one of: cocoop, ",
        ),
        (["--dataset", "no/such_dataset_or_folder_here"], "no/such_dataset_or_folder_here"),
        (["--sharpness", "sma"], "no sharpness rule 'sma'; did you mean 'sam'?"),
        (["--eval_split", "dev"], "has no dev split; it has"),
        (["--cache_features", "no", "--augmented_views", "2"], "leave one of the two out"),
        (["--augmented_views", "-1"], "--augmented_views must be at least 0, got -1."),
        (["--model", "no/such_model_here"], "no/such_model_here"),
        (["--output_dir", "/dev/null/runs"], "The directory /dev/null/runs"),
    ],
)
def test_a_wrong_argument_is_answered_with_what_would_be_right(arguments, message, folder, run, tmp_path):
    data = [] if "--dataset" in arguments else ["--dataset", folder]
    _, said = run(*data, "--output_dir", tmp_path, *arguments, code=2)
    assert message in said
    assert len(without_progress(said).splitlines()) == 1, said


def test_a_recipe_with_an_unknown_argument_names_the_nearest(folder, run, tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rat: 0.1\n")
    _, said = run("--dataset", folder, "--recipes", tmp_path / "mine.yaml", "--output_dir", tmp_path, code=2)
    assert "A recipe sets 'learning_rat', which is no argument of this script; did you mean 'learning_rate'?" in said


def test_a_corrupt_image_is_named(folder, run, tmp_path):
    broken = tmp_path / "broken"
    for path in folder.rglob("*.png"):
        target = broken / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    victim = next(broken.rglob("test/*/2.png"))
    victim.write_bytes(b"not an image")
    _, said = run("--dataset", broken, *SMALL, "--output_dir", tmp_path / "runs", code=2)
    assert f"The image {victim} cannot be decoded" in said


def test_help_reads_like_a_manual(capsys):
    assert base_to_novel.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "Base-to-novel generalisation" in text
    for flag in ("--model", "--dataset", "--shots", "--seeds", "--cache_features", "--output_dir", "--push_to_hub"):
        assert flag in text
