"""The example for people with their own loop and model, as they would type it."""

import runpy
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState
from two_processes.examples import plain_loops


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "plain_accelerate_loop.py"


def test_it_is_short():
    """It is there to show how little a loop needs."""
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 62


def test_it_trains(monkeypatch, capsys):
    """In two processes tests/two_processes start it."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "2"])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    assert plain_loops(capsys.readouterr().out, processes=1) == ["none", "sam"]


@pytest.mark.parametrize("words", [["many"], ["0"], ["-1"], ["1.5"], ["1", "2"], [""]])
def test_a_wrong_number_of_epochs_is_answered_in_one_sentence(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    message = f"Give the number of epochs as one whole number above 0, got {' '.join(words)}.\n"
    assert capsys.readouterr().err == message
