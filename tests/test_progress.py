"""What a command says of how far it is."""

import io
import json
import re
import sys
import time

import pytest

from hf_sharp_prompt import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_for_programs_and_few(monkeypatch, capsys):
    """A log of a long run stays readable."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress.shown():
        progress.report("starting")
        for done in range(1000):
            now[0] += 0.01
            progress.report("encoding", done + 1, 1000)
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.err.splitlines()]
    assert lines[0] == {"stage": "starting"}
    assert 3 <= len(lines) <= 1 + 10 / progress.SECONDS_BETWEEN_LINES
    assert lines[1].keys() == {"stage", "done", "total"}
    assert printed.out == "", "results go there"


def test_a_terminal_shows_a_bar_that_vanishes(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown():
        progress.report("reading")
        progress.report("encoding", 512, 2048)
        progress.hide()
        shown = terminal.getvalue()
        progress.report("training", 1, 2)
    assert "encoding" in shown
    assert "512/2048" in re.sub(" ", "", shown)
    assert "training" in terminal.getvalue()[len(shown) :], "it comes back after a line of text"
    assert terminal.getvalue().endswith("\x1b[2K"), "the last line is erased"
    assert capsys.readouterr().out == ""


def test_one_process_of_several_shows_it(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with progress.shown():
        progress.report("starting")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_is_shown_outside_of_commands(nested, capsys):
    """A library prints nothing of its own accord, nor after a command has ended."""
    if nested:
        with progress.shown(), progress.shown():
            pass
    progress.report("training", 1, 2)
    assert capsys.readouterr().err == ""
