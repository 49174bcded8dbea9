"""What the example scripts have in common."""

import torch

from hf_sharp_prompt.experiments import console


def test_who_starts_python_alone_keeps_the_threads_that_were_asked_for(monkeypatch):
    """`test_precision.py` shows what is undone of `accelerate launch`."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    before = torch.get_num_threads()
    console.use_all_cores()
    assert torch.get_num_threads() == before
