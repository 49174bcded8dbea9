"""A Trainer that has not trained evaluates, logs, saves and publishes, as to share a loaded adapter."""

import copy

import pytest
import torch
from peft import PeftModel
from training.small_runs import accuracy, load_clip, make_data, make_model, make_trainer


@pytest.fixture(params=["new", "loaded"])
def trainer(request, tmp_path):
    """Make one for a new adapter, or for one that is loaded for inference, in which nothing requires a gradient."""
    model = make_model(torch.float32)
    if request.param == "loaded":
        model.save_pretrained(tmp_path / "adapter")
        model = PeftModel.from_pretrained(copy.deepcopy(load_clip(torch.float32)), tmp_path / "adapter")
    data = make_data(10, dtype=torch.float32)
    parts = {"eval_dataset": data, "compute_metrics": accuracy}
    return make_trainer(tmp_path / "out", model, data, parts, sharpness="gcsam", objectives=["kgcoop"])


def test_evaluating_and_logging(trainer):
    trainer.log({"loss": 1.0})
    assert "eval_accuracy" in trainer.evaluate()
    assert trainer.predict(make_data(4, dtype=torch.float32)).predictions.shape == (4, 5)


def test_the_card_says_nothing_of_a_training_that_was_not(trainer, tmp_path):
    trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Nothing is recorded of the adapter's training." in card
    assert "| accuracy |" in card
    assert "| trained parameters | 96 |" in card
    assert not any(word in card for word in ("GCSAM", "gcsam", "kgcoop", "learning_rate", "plain training"))
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
