"""Calls in forked processes, several at a time: what comes back, whose lines are whose, and how all end."""

import json
import logging
import os
import signal
import sys
import time

import pytest
import torch

from hf_sharp_prompt import progress
from hf_sharp_prompt.experiments import threads
from hf_sharp_prompt.experiments.side_by_side import KilledError, side_by_side
from hf_sharp_prompt.experiments.threads import WORK_OF_A_THREAD, choose_runs_at_once, threads_that_pay


def test_each_call_is_answered_from_a_process_of_its_own(capfd):
    """Two at a time, whatever their order; each line says whose it is."""

    def square(number: int) -> dict[str, int]:
        print(f"printed {number}")
        logging.getLogger("hf_sharp_prompt.test").warning(f"logged {number}")
        os.write(2, b"written by a library, without an end of line")
        return {"square": number**2, "process": os.getpid(), "threads": torch.get_num_threads()}

    answers = dict(side_by_side({f"run {number}": lambda number=number: square(number) for number in range(3)}, 2))
    assert {name: answer["square"] for name, answer in answers.items()} == {"run 0": 0, "run 1": 1, "run 2": 4}
    assert len({answer["process"] for answer in answers.values()} | {os.getpid()}) == 4
    assert {answer["threads"] for answer in answers.values()} == {1}
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("run ")] == []
    assert "run 1: printed 1" in err.splitlines()
    assert "run 2: written by a library, without an end of line" in err


def test_they_run_at_the_same_time():
    """The first ends only when the second has begun."""
    reader, writer = os.pipe()
    calls = {"waits": lambda: os.read(reader, 1), "sends": lambda: os.write(writer, b"x")}
    assert dict(side_by_side(calls, 2)) == {"waits": b"x", "sends": 1}


def test_a_process_that_is_killed_costs_no_other():
    """The kernel kills a process when memory is used up."""
    calls = {"killed": lambda: os.kill(os.getpid(), signal.SIGKILL), "other": lambda: 7}
    answers = dict(side_by_side(calls, 2))
    assert answers["other"] == 7
    assert isinstance(answers["killed"], KilledError)
    assert "killed by SIGKILL" in str(answers["killed"])


def test_when_the_first_process_is_interrupted_all_end():
    """Ctrl-C must leave nothing behind that goes on to train."""
    reader, writer = os.pipe()

    def train() -> None:
        os.write(writer, f"{os.getpid()}\n".encode())
        while True:
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)  # which a terminal sends to all; the first process decides

    answers = side_by_side({"at once": lambda: os.read(reader, 100), "endless": train}, 2)
    name, process = next(answers)
    with pytest.raises(KeyboardInterrupt):
        answers.throw(KeyboardInterrupt)
    assert name == "at once"
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)


def test_progress_says_whose_it_is(capfd):
    with progress.shown():
        list(side_by_side({"seed 1": lambda: progress.report("training", 3, 10)}, 2))
    assert json.loads(capfd.readouterr().err) == {"of": "seed 1", "stage": "training", "done": 3, "total": 10}


def test_bars_stand_side_by_side_and_vanish(monkeypatch):
    bar = progress.Bar()
    with progress.shown_by(bar):
        progress.report("encoding", 1, 2)
        for name in ("seed 1", "seed 2"):
            progress.report("training", 1, 9, name)
        assert [task.description for task in bar._progress.tasks] == ["seed 1: training", "seed 2: training"]
        progress.end("seed 1")
        progress.report("measuring", 1, 2, "seed 2")
        assert [task.description for task in bar._progress.tasks] == ["seed 2: measuring"]
        progress.report("drawing")
        assert [task.description for task in bar._progress.tasks] == ["drawing"]


@pytest.mark.parametrize(
    ("available", "works", "asked", "expected"),
    [
        (2, [1, 1, 1], None, 2),  # the demo on two cores
        (64, [1, 1, 1], None, 3),
        (1, [1, 1, 1], None, 1),  # OMP_NUM_THREADS=1
        (8, [1, 3 * WORK_OF_A_THREAD], None, 1),
        (8, [3 * WORK_OF_A_THREAD] * 4, 2, 2),
        (8, [1, 1, 1], 1, 1),
        (1, [1, 1, 1], 2, 2),
    ],
)
def test_small_runs_are_done_side_by_side(available, works, asked, expected, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: available)
    assert choose_runs_at_once(works, asked) == expected


@pytest.mark.parametrize(("work", "threads"), [(1, 1), (3, 3), (100, 8)])
def test_the_work_of_a_step_chooses_among_the_threads_that_torch_has(work, threads, monkeypatch):
    """Threads that wait for each other make a small step slower; more than the user asked for there never are."""
    chosen = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: chosen[-1])
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    with threads_that_pay(work * WORK_OF_A_THREAD):
        assert chosen[-1] == threads
    assert chosen[-1] == 8


@pytest.mark.parametrize("why", ["a GPU", "several processes", "macOS"])
def test_runs_share_no_gpu_and_no_group_of_processes(why, monkeypatch):
    class State:
        device = torch.device("cuda" if why == "a GPU" else "cpu")
        num_processes = 2 if why == "several processes" else 1

    monkeypatch.setattr(threads, "PartialState", State)
    monkeypatch.setattr(sys, "platform", "darwin" if why == "macOS" else "linux")
    assert choose_runs_at_once([1, 1]) == 1
    with pytest.raises(ValueError, match="--runs_at_once 2 is for one process on a CPU"):
        choose_runs_at_once([1, 1], 2)
