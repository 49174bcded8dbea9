"""A rule that a user wrote is one dataclass, and the Trainer follows it by its name."""

from dataclasses import dataclass

import pytest
import torch
from training.small_runs import make_trainer, prompt_of

from hf_sharp_prompt.sharpness import Gradient, SharpnessRule, hyperparameter, unit


@pytest.fixture
def uphill():
    """SAM under another name, so that the result is known."""

    @dataclass
    class Uphill(SharpnessRule, name="uphill"):
        radius: float = hyperparameter(0.05, low=0, help="Perturbation radius.")

        def direction(self, gradient: Gradient) -> torch.Tensor:
            g = gradient()
            self.reported = {"uphill_norm": g.norm()}
            self.state["seen"] = self.state.get("seen", torch.zeros((), dtype=g.dtype)) + 1
            return gradient(offset=self.radius * unit(g))

    yield Uphill
    del SharpnessRule.registry["uphill"]


def train(output_dir, resume=None, **arguments):
    trainer = make_trainer(output_dir, save_strategy="steps", save_steps=3, **arguments)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_the_trainer_follows_a_rule_of_a_users_own(uphill, tmp_path):
    """Otherwise users have to change the package for their own idea."""
    mine = train(tmp_path / "mine", sharpness="uphill", sharpness_args={"radius": 0.3})
    assert isinstance(mine.sharpness.rule, uphill)
    sam = train(tmp_path / "sam", sharpness="sam", sharpness_args={"rho": 0.3})
    assert torch.equal(prompt_of(mine.model), prompt_of(sam.model))
    assert sum("uphill_norm" in entry for entry in mine.state.log_history) == 8


def test_what_it_remembers_is_in_the_checkpoints(uphill, tmp_path):
    train(tmp_path, sharpness="uphill")
    resumed = train(tmp_path, str(tmp_path / "checkpoint-3"), sharpness="uphill")
    assert int(resumed.sharpness.rule.state["seen"]) == 8


def test_its_name_and_its_hyperparameters_are_checked(uphill, tmp_path):
    with pytest.raises(ValueError, match="no sharpness rule 'uphil'; did you mean 'uphill'"):
        make_trainer(tmp_path, sharpness="uphil")
    with pytest.raises(ValueError, match="uphill: radius must be a finite number >= 0, got -1"):
        make_trainer(tmp_path, sharpness="uphill", sharpness_args={"radius": -1})
    with pytest.raises(ValueError, match=r"uphill has no hyperparameter 'radios'; did you mean 'radius'\?"):
        make_trainer(tmp_path, sharpness="uphill", sharpness_args={"radios": 1})
