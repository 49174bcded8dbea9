"""Training that is not finite stops, says where, and saves nothing of it."""

import pytest
import torch
from safetensors.torch import load_file
from training.small_runs import make_data, make_trainer

from hf_sharp_prompt.sharpness import SharpnessAware, create
from hf_sharp_prompt.training.finiteness import MAX_STEPS_SKIPPED, FinitenessCheck


def make_run(output_dir, **arguments):
    """Four steps an epoch, of which one in the second epoch sees features that are NaN."""
    trainer = make_trainer(output_dir, data=make_data(24), save_strategy="steps", save_steps=2, **arguments)
    real, steps = trainer.compute_loss, []

    def fail_in_step_six(model, inputs, *args, **kwargs):
        steps.append(trainer.state.global_step)
        if trainer.state.global_step == 5:
            inputs = {**inputs, "image_features": inputs["image_features"] * torch.nan}
        return real(model, inputs, *args, **kwargs)

    trainer.compute_loss = fail_in_step_six
    return trainer


@pytest.mark.parametrize("logging", [{"logging_steps": 1}, {"logging_strategy": "no"}])
@pytest.mark.parametrize("rule", ["none", "sam", "fsam"])
def test_training_stops_at_the_step_and_keeps_the_last_good_state(rule, logging, tmp_path):
    """It used to end with loss 0.0 in the log, a NaN prompt and exit code 0."""
    trainer = make_run(tmp_path, sharpness=rule, **logging)
    with pytest.raises(FloatingPointError, match=r"step 6 the loss and the gradient are NaN.*checkpoint-4, is kept"):
        trainer.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert all(entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry)


def test_a_run_that_saves_and_logs_nothing_stops_at_its_end(tmp_path):
    trainer = make_run(tmp_path, logging_strategy="no")
    trainer.args.save_strategy = "no"
    with pytest.raises(FloatingPointError, match="at step 6"):
        trainer.train()


def test_a_model_that_is_not_finite_does_not_replace_one_that_is(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.train()
    trainer.save_model()
    next(each for each in trainer.model.parameters() if each.requires_grad).data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the parameters are NaN or infinite"):
        trainer.save_model()
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "adapter_model.safetensors").values())


class TestLossScaler:
    """With float16 a scaler skips steps whose gradients overflow, which is normal."""

    @pytest.fixture
    def check(self, monkeypatch) -> FinitenessCheck:
        monkeypatch.setattr(SharpnessAware, "scales_loss", True)
        return FinitenessCheck(SharpnessAware(create("sam"), [torch.nn.Parameter(torch.ones(2))]))

    def test_skipped_steps_are_normal(self, check):
        check.sharpness.finite = torch.tensor(False)
        for step in range(1, MAX_STEPS_SKIPPED):
            check.see_step(step, torch.tensor(torch.inf))
            check.see_update(skipped=True)
            check.check(step, "")
        check.see_update(skipped=False)
        check.see_update(skipped=True)
        check.check(step, "")

    def test_a_scaler_that_finds_no_scale_stops_the_run(self, check):
        for _ in range(MAX_STEPS_SKIPPED):
            check.see_update(skipped=True)
        with pytest.raises(FloatingPointError, match=r"the loss scaler has skipped 50 steps in a row.*bf16=True"):
            check.check(60, "")
