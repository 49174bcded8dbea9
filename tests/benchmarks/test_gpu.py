"""The benchmark of a GPU works as far as a CPU can show it: its tables, its exit code and its limit of time."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch) -> ModuleType:
    """The benchmark; nothing is compiled, which takes seconds."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    yield importlib.import_module("gpu")
    for name in ("gpu", "device_cost", "text_encoder", "vit_b16"):
        del sys.modules[name]


@pytest.fixture
def run(gpu, monkeypatch, capsys):
    def run(*words: str) -> tuple[int, dict[str, list[list[str]]]]:
        """The exit code, and the cells of each part's rows."""
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", *words])
        code, tables = gpu.main(), {}
        for part in capsys.readouterr().out.split("\n## ")[1:]:
            lines = [line for line in part.splitlines() if line.startswith("|")]
            tables[part.split()[0]] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
        return code, tables

    return run


def test_every_part_runs(run, monkeypatch, gpu):
    """Otherwise the little time that there is on a GPU is spent on finding that the script fails."""
    started = []

    def finish(words, setting, environment=None):
        started.append((words, environment and environment["HF_SHARP_PROMPT_TEST_DEVICE"]))
        return "== 3 passed in 1 s ==" if "pytest" in words else "demo, coop_sam, seed 1: base 90.0 in 2.0 s"

    monkeypatch.setattr(gpu, "run_python", finish)
    code, tables = run()
    assert code == 0
    numbers = {name: len(rows) for name, rows in tables.items()}
    assert numbers == {"text": 6, "step": 9, "run": 3, "memory": 4, "devices": 3, "jobs": 2, "tests": 2}
    assert all(cell for rows in tables.values() for row in rows for cell in row[:3])
    norms = {row[2]: float(row[-1]) for row in tables["step"] if row[1] == "fp32"}
    assert norms["SAM"] == pytest.approx(norms["papers' way"], rel=1e-3)
    assert [row[4] for row in tables["run"]] == ["6 of 6"] * 3
    assert tables["jobs"][1] == ["bf16", "0", "base 90.0"]
    launched = [words[words.index("--mixed_precision") + 1] for words, device in started if device is None]
    assert launched == ["no", "bf16"]
    assert [device for _, device in started if device] == ["cpu", "cpu"]


def test_a_row_that_fails_says_why_and_the_others_are_measured(run, monkeypatch, gpu):
    """One card is too small for one way; its other figures are wanted."""

    def padded(case, **kwargs):
        raise MemoryError("no | memory")

    monkeypatch.setattr(gpu.Case, "padded", padded)
    code, tables = run("--parts", "text")
    reasons = {row[2]: row[3] for row in tables["text"]}
    assert code == 1
    assert reasons["padded"].startswith("**MemoryError: no \\")
    assert float(reasons["shared"]) > 0


def test_a_process_that_fails_says_why(gpu):
    """The only thing that is left of it is its row."""
    setting = gpu.Setting(torch.device("cpu"), gpu.TINY, gpu.Time(60))
    assert gpu.run_python(["-c", "print('done')"], setting) == "done\n"
    with pytest.raises(RuntimeError, match="Exit code 3: no driver"):
        gpu.run_python(["-c", "print('no driver'); raise SystemExit(3)"], setting)


def test_what_no_longer_fits_is_skipped(run):
    """A lent GPU is taken away when its time is over, and with it whatever was not printed."""
    code, tables = run("--parts", "jobs", "devices", "--minutes", "0")
    assert {cell for rows in tables.values() for row in rows for cell in row[1:2]} == {"*skipped: no time was left*"}
    assert code == 0
