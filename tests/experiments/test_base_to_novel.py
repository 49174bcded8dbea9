"""Base-to-novel results: those of later commands and of an older version are added."""

import json

from hf_sharp_prompt.data import collator
from hf_sharp_prompt.experiments import base_to_novel


def test_a_finished_run_without_calibration_is_measured_again_and_not_trained(run, tmp_path):
    """Otherwise a column of the table would stay empty for all whose runs are older than it."""
    arguments = ["--shots", "1", "--seeds", "1", "--eval_strategy", "steps", "--eval_steps", "1"]
    run(base_to_novel, *arguments)
    directory = tmp_path / "out" / "colour_shape_tint" / "coop" / "seed1"
    whole = json.loads((directory / "metrics.json").read_text())
    older = {name: value for name, value in whole.items() if not name.endswith("_ece")}
    (directory / "metrics.json").write_text(json.dumps(older))
    trained = (directory / "training_args.bin").stat().st_mtime_ns
    run(base_to_novel, *arguments)
    assert json.loads((directory / "metrics.json").read_text()) == whole, "its history by epoch included"
    assert (directory / "training_args.bin").stat().st_mtime_ns == trained


def test_a_later_data_set_is_in_the_mean(run):
    """A night of one data set and another night of the next make one table."""
    arguments = ["--shots", "1", "--seeds", "1", "--eval_strategy", "no"]
    assert "mean of" not in run(base_to_novel, *arguments)
    assert "mean of 2 data sets, 1 shot" in run(base_to_novel, *arguments, "--dataset", "whole")


def test_the_demos_images_are_decoded_once(run, monkeypatch):
    """Designs that learn in the image tower see them at every epoch and evaluation."""
    decoded = []
    decode = collator.decode
    monkeypatch.setattr(collator, "decode", lambda *args: decoded.append(args) or decode(*args))
    arguments = ["--recipes", "vpt", "--shots", "1", "--seeds", "1", "--eval_strategy", "steps", "--eval_steps", "1"]
    run(base_to_novel, *arguments, "--dataloader_num_workers", "0")
    assert len(decoded) == 2 + 2 * 8, "those to learn from once, and those to measure on for zero-shot CLIP and VPT"
