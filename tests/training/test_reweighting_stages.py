"""Where re-weighting begins, gnm's noise is halved."""

import shutil

import pytest
import torch
from training.small_runs import (
    make_trainer,
    prompt_of,
)
from transformers import TrainerCallback

from hf_sharp_prompt import SharpPromptTrainingArguments
from hf_sharp_prompt.sharpness.step.gradients import Evaluations


@pytest.mark.parametrize("resumed", [False, True])
def test_gnms_noise_is_halved_at_each_reweighting_stage(resumed, tmp_path, monkeypatch):
    """RSAM-PT's σ decays when the classes are weighted differently, also in a run that was interrupted in between."""
    monkeypatch.setattr(Evaluations, "draw_normal", lambda self: torch.ones_like(self.weights))
    arguments = {"sharpness": "gnm", "reweighting_epochs": [2, 3], "num_train_epochs": 4, "save_strategy": "epoch"}
    if resumed:
        make_trainer(tmp_path, **arguments).train()
        shutil.rmtree(tmp_path / "checkpoint-16")
    trainer, offsets, here = make_trainer(tmp_path, **arguments), {}, []
    compute_loss = trainer.compute_loss

    def see(*args, **kwargs):
        offsets.setdefault(int(trainer.state.epoch), []).append(prompt_of(trainer.model) - here[-1])
        return compute_loss(*args, **kwargs)

    class Here(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            here.append(prompt_of(trainer.model))

    trainer.compute_loss = see
    trainer.add_callback(Here())
    trainer.train(resume_from_checkpoint=resumed)
    assert set(offsets) == ({3} if resumed else {0, 1, 2, 3})
    for epoch, seen in offsets.items():
        sigma = 0.1 * {0: 1, 1: 1, 2: 1 / 2, 3: 1 / 4}[epoch]
        for offset in seen:
            torch.testing.assert_close(offset, torch.full_like(offset, 0.05 * sigma / 3), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("epochs", "message"), [([1, 2], "has 2, but the last of 2 epochs, .* is 1"), ([-1], "from 0 on")]
)
def test_a_reweighting_epoch_that_never_comes_is_refused(epochs, message, tmp_path):
    with pytest.raises(ValueError, match=f"reweighting_epochs .*{message}"):
        SharpPromptTrainingArguments(str(tmp_path), num_train_epochs=2, reweighting_epochs=epochs)
