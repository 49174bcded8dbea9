"""Random generators are restored to the number that they would have drawn."""

import random

import numpy as np
import pytest
import torch

from hf_sharp_prompt.random_state import RandomState, random_state_kept


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


@random_state_kept()
def seed_and_fail() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    draw()
    raise RuntimeError("in the block")


def test_a_restored_state_draws_the_same_numbers_again():
    state = RandomState.capture([torch.device("cpu")])
    first = draw()
    assert draw() != first
    state.restore()
    assert draw() == first


def test_a_block_that_fails_leaves_the_generators_as_they_were():
    """Otherwise an error in a measurement changes the run that goes on after it."""
    state = RandomState.capture()
    expected = draw()
    state.restore()
    with pytest.raises(RuntimeError, match="in the block"):
        seed_and_fail()
    assert draw() == expected
