"""What the example scripts have in common."""

import os

import pytest
import torch
from support.forks import run_fork

from hf_sharp_prompt.experiments import console


def test_who_starts_python_alone_keeps_the_threads_that_were_asked_for(monkeypatch):
    """`test_precision.py` shows what is undone of `accelerate launch`."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    before = torch.get_num_threads()
    console.use_all_cores()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("set_by_user", [True, False])
def test_under_accelerate_launch_only_the_users_own_number_of_threads_counts(set_by_user, monkeypatch):
    """`accelerate launch` sets OMP_NUM_THREADS=1 itself, but passes on what was there before."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(console, "was_set_by_user", lambda name: name == "OMP_NUM_THREADS" and set_by_user)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    console.use_all_cores()
    assert bool(asked) != set_by_user


def test_a_variable_that_was_typed_is_told_from_one_that_a_launcher_sets(monkeypatch):
    """The fork stands for what `accelerate launch` starts; the environment of this process is what was typed."""
    typed = next(name for name in os.environ if name.isidentifier())
    monkeypatch.setenv("SET_BY_THE_LAUNCHER", "1")
    assert run_fork(check_variables, typed) == 0


def check_variables(typed: str) -> None:
    assert console.was_set_by_user(typed)
    assert not console.was_set_by_user("SET_BY_THE_LAUNCHER")
