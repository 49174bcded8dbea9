"""A protocol's methods and seeds at once: the same results, records and messages as one after the other."""

import functools
import json
import logging
from collections.abc import Sequence
from itertools import chain

import pytest
import torch
from safetensors.torch import load_file
from support.demo_images import few_images

from hf_sharp_prompt import demo, progress
from hf_sharp_prompt.experiments import base_to_novel, clip, runs


METHODS = ["gcscoop", "cocoop"]
SMALL = ["--shots", "1", "--max_steps", "2", "--eval_strategy", "no", "--use_cpu", "--save_strategy", "no"]

four_classes = functools.partial(few_images, 4, train=2, test=2)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs the main job in a directory; returns its exit code and what it prints."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(clip, "load_image_dataset", lambda dataset, **loading: four_classes())
    monkeypatch.setattr(base_to_novel.BaseToNovel, "draw", lambda *_: None)

    def run(name: str, *arguments: str, methods: Sequence[str] = METHODS) -> tuple[int, str]:
        words = [*SMALL, "--output_dir", str(tmp_path / name), "--recipes", *methods, "--seeds", "1", "2", *arguments]
        return base_to_novel.main(words), capsys.readouterr().out

    return run


def results(directory) -> dict[str, list[dict]]:
    """What was measured but for times and paths."""
    summary = json.loads((directory / demo.DEFAULT_TASK / "summary.json").read_text())
    for each in chain.from_iterable(summary.values()):
        for own in ("seconds", "adapter", "files"):
            each.pop(own, None)
    return summary


def test_results_and_adapters_are_those_of_single_runs(run, tmp_path, caplog):
    """Otherwise a table would depend on how its runs were computed."""
    assert run("alone")[0] == 0
    with caplog.at_level(logging.WARNING, "hf_sharp_prompt"):
        assert run("together", "--together", "yes")[0] == 0
    assert "cocoop, seed 1 is trained alone: its context is conditioned on images" in caplog.text
    expected, found = results(tmp_path / "alone"), results(tmp_path / "together")
    assert list(found) == list(expected)
    for name in expected:
        for one, other in zip(found[name], expected[name], strict=True):
            for key, value in other.items():
                assert one[key] == (value if isinstance(value, dict) else pytest.approx(value, abs=1e-5)), key
    for path in (tmp_path / "alone").rglob("adapter_model.safetensors"):
        other = tmp_path / "together" / path.relative_to(tmp_path / "alone")
        one, other = load_file(path), load_file(other)
        for key, tensor in one.items():
            assert torch.allclose(tensor, other[key], rtol=0, atol=1e-6)
    with caplog.at_level(logging.WARNING, "hf_sharp_prompt"):
        assert run("together", "--together", "yes")[0] == 0
    assert "seed2 is finished and not run again" in caplog.text


def test_a_failed_run_costs_no_other(run, tmp_path, monkeypatch, caplog):
    measure = runs.check_same

    def fail_for_seed_1(measured, reloaded, of):
        if of.seed == 1 and of.method == "coop":
            raise RuntimeError("broken")
        measure(measured, reloaded, of)

    monkeypatch.setattr(runs, "check_same", fail_for_seed_1)
    code, printed = run("together", "--together", "yes", methods=["coop"])
    assert code == 1
    assert "broken" in printed
    assert sum("failed" in each for found in results(tmp_path / "together").values() for each in found) == 1
    assert "broken" in (tmp_path / "together" / demo.DEFAULT_TASK / "coop" / "seed1" / runs.ERROR_NAME).read_text()


class Shown:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int | None, int | None]] = []

    def show(self, stage: str, done: int | None, total: int | None, of: str | None = None) -> None:
        self.reports.append((stage, done, total))

    def end(self, of: str | None) -> None:
        pass

    def hide(self) -> None:
        pass


def test_progress_is_that_of_all_runs(run, monkeypatch):
    """Otherwise the bar jumps from one run to the next, and says nothing."""
    shown = Shown()
    token = progress._DISPLAY.set(shown)
    try:
        run("together", "--together", "yes", methods=["coop"])
    finally:
        progress._DISPLAY.reset(token)
    training = [each[1:] for each in shown.reports if each[0] == "training"]
    assert training[-1] == (4, 4)  # of two runs


@pytest.mark.parametrize(("asked", "chosen"), [("auto", 0), ("no", 0), ("yes", 2)])
def test_runs_are_put_together_by_themselves_only_on_an_accelerator(tmp_path, asked, chosen):
    """On a CPU it would save nothing."""
    made = [
        runs.Run("coop", seed, f"seed {seed}", tmp_path / str(seed), {}, dict, dict, dict, [], dict, 0, alone=alone)
        for seed, alone in enumerate([None, None, "it is different"])
    ]
    assert len(runs.choose_together(made, asked)) == chosen
