"""What a run measures arrives in the trackers that people use, under the names of the log."""

import json
import sqlite3
from pathlib import Path

import pytest
from training.small_runs import make_trainer


SEEN = {"gradient_norm", "perturbed_loss", "sharpness", "cosine", "kgcoop_loss"}
"""What the rule and an objective report besides the Trainer's own values."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a few steps that report to a tracker, and returns what was logged."""
    monkeypatch.chdir(tmp_path)

    def run(tracker: str) -> list[dict[str, float]]:
        trainer = make_trainer(
            tmp_path / "out", report_to=tracker, objectives=["kgcoop"], hub_token="hf_secret", max_steps=2
        )
        trainer.train()
        logged = [entry for entry in trainer.state.log_history if "sharpness" in entry]
        assert len(logged) == 2
        assert logged[0].keys() >= SEEN
        return logged

    return run


def check_no_secret(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or b"hf_secret" not in path.read_bytes(), path


def test_tensorboard(run, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    logged = run("tensorboard")
    (file,) = (tmp_path / "logs").rglob("events.out.*")
    events = EventAccumulator(str(file)).Reload()
    for name in SEEN:
        values = [event.value for event in events.Scalars(f"train/{name}")]
        assert values == pytest.approx([entry[name] for entry in logged])
    check_no_secret(tmp_path / "logs")


def test_weights_and_biases_offline(run, tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = run("wandb")
    assert {name: wandb.run.summary[f"train/{name}"] for name in SEEN} == {name: logged[-1][name] for name in SEEN}
    wandb.finish()
    (file,) = tmp_path.rglob("run-*.wandb")
    assert all(f"train/{name}".encode() in file.read_bytes() for name in SEEN)
    check_no_secret(tmp_path / "wandb")


def test_trackio(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    logged = run("trackio")
    (file,) = (tmp_path / "trackio").rglob("*.db")
    with sqlite3.connect(file) as database:
        rows = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics ORDER BY id")]
    rows = [row for row in rows if "train/sharpness" in row]
    for name in SEEN:
        assert [row[f"train/{name}"] for row in rows] == pytest.approx([entry[name] for entry in logged])
    check_no_secret(tmp_path / "trackio")
