"""A training step from image features waits for the device nowhere, and copies nothing to it."""

from collections import Counter

import pytest
import torch
from sharpness.every_rule import make_rule
from torch.utils._python_dispatch import TorchDispatchMode
from training.small_runs import make_trainer

from hf_sharp_prompt.sharpness import SharpnessAware


# Each makes Python wait for the device, or copies what Python knows to it, which waits as well.
WAITING = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::lift_fresh"}


class Waiting(TorchDispatchMode):
    """Counts the operations that would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        self.found.update([name] if name in WAITING else [])
        return function(*args, **(kwargs or {}))


def test_a_step_of_the_trainer_does_not_wait(tmp_path, monkeypatch):
    """On a GPU each wait leaves it idle until Python has caught up; and no CUDA graph can be captured around one."""
    trainer, waiting = make_trainer(tmp_path, sharpness="gcsam"), Waiting()
    take_step = trainer.training_step

    def watch(*args):
        if trainer.state.global_step == 0:  # Then the texts are copied to the device.
            return take_step(*args)
        with waiting:
            return take_step(*args)

    monkeypatch.setattr(trainer, "training_step", watch)
    trainer.train()
    assert trainer.state.global_step > 1
    assert waiting.found == {}


@pytest.mark.parametrize("name", ["asam", "crsam", "gcsam", "gnp", "gsam", "none", "sagm", "sam"])
def test_a_rule_without_a_memory_does_not_wait(name):
    """Norms and angles stay tensors. A rule with a memory waits once, since a failed step must not enter it."""
    weights = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    sharp = SharpnessAware(make_rule(name), [weights])
    with Waiting() as waiting:
        for _ in range(2):
            sharp.backward(lambda: (weights**4).sum())
    assert waiting.found == {}
