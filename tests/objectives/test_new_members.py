"""A new objective and a new loss are one class each, and the Trainer's arguments take their names."""

from dataclasses import dataclass

import pytest
import torch
from training.small_runs import make_trainer, prompt_of

from hf_sharp_prompt.hyperparameters import hyperparameter
from hf_sharp_prompt.objectives import Objective
from hf_sharp_prompt.objectives.long_tail import LongTailLoss


@pytest.fixture
def confident():
    """An objective that a user wrote: the entropy of the predictions."""

    @dataclass
    class Confident(Objective, name="confident"):
        weight: float = hyperparameter(0.1, low=0, help="Weight of the term.")

        def term(self, batch):
            log_p = batch.logits.log_softmax(-1)
            return self.weight * batch.mean(-(log_p.exp() * log_p).sum(-1))

    yield Confident
    del Objective.registry["confident"]


@pytest.fixture
def sharpened():
    """A loss that a user wrote: the logits are scaled."""

    @dataclass(eq=False)
    class Sharpened(LongTailLoss, name="sharpened"):
        scale: float = hyperparameter(1.0, above=0, help="Scale of the logits.")

        def adjust(self, logits, labels):
            return self.scale * logits

    yield Sharpened
    del LongTailLoss.registry["sharpened"]


def train(output_dir, **arguments):
    trainer = make_trainer(output_dir, sharpness="sam", **arguments)
    trainer.train()
    return trainer


def test_the_trainer_minimises_a_new_objective(confident, tmp_path):
    """Otherwise users have to change the package for their own idea."""
    trainer = train(tmp_path, objectives={"confident": {"weight": 5.0}})
    assert isinstance(trainer.objectives.objectives[0], confident)
    losses = [entry["confident_loss"] for entry in trainer.state.log_history if "confident_loss" in entry]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert not torch.equal(prompt_of(trainer.model), prompt_of(train(tmp_path).model))
    with pytest.raises(ValueError, match="confident: weight must be a finite number >= 0, got -1"):
        train(tmp_path, objectives={"confident": {"weight": -1}})
    with pytest.raises(ValueError, match="no objective 'confidant'; did you mean 'confident'"):
        train(tmp_path, objectives="confidant")


def test_the_trainer_minimises_a_new_loss(sharpened, tmp_path):
    """The same for losses: with scale 1 it is cross entropy, with another it is not."""
    plain = prompt_of(train(tmp_path, loss="cross_entropy").model)
    same, other = (train(tmp_path, loss="sharpened", loss_args={"scale": scale}) for scale in (1.0, 0.5))
    assert torch.equal(prompt_of(same.model), plain)
    assert not torch.equal(prompt_of(other.model), plain)
    with pytest.raises(ValueError, match="sharpened: scale must be a finite number > 0, got 0"):
        train(tmp_path, loss="sharpened", loss_args={"scale": 0})
    with pytest.raises(ValueError, match="no loss 'sharpend'; did you mean 'sharpened'"):
        train(tmp_path, loss="sharpend")
    with pytest.raises(ValueError, match=r"sharpened has no hyperparameter 'scal'; did you mean 'scale'\?"):
        train(tmp_path, loss="sharpened", loss_args={"scal": 1.0})


def test_losses_are_compared_by_identity(sharpened):
    """Modules are members of sets; two losses of equal hyperparameters may have other counts."""
    one, other = sharpened([1, 2]), sharpened([3, 4])
    assert len({one, other, *one.modules()}) == 2
    assert one != other
    assert repr(one) == repr(other)
