"""Adapters of any name are saved, resumed and reloaded; PEFT gives all but "default" a separate folder each."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from training.small_runs import CLASSES, load_clip, load_processor, make_data, make_trainer

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer


def make_model(*names: str) -> PeftModel:
    """A prompted model in float32 with these adapters, of which the last one is active."""
    torch.manual_seed(0)
    model = get_peft_model(copy.deepcopy(load_clip(torch.float32)), CLIPPromptConfig(num_text_tokens=3), names[0])
    for name in names[1:]:
        model.add_adapter(name, CLIPPromptConfig(num_text_tokens=3))
    model.set_adapter(names[-1])
    model.set_classes(CLASSES, load_processor(), "{}.")
    return model


def prompts(model: PeftModel) -> dict[str, torch.Tensor]:
    contexts = model.get_base_model().text_model.embeddings.clip_prompt_context
    return {name: context.detach().clone() for name, context in contexts.items()}


NAMES = [("default",), ("pets",), ("default", "pets"), ("pets", "default"), ("a", "b")]


@pytest.mark.parametrize("names", NAMES)
def test_the_best_model_is_loaded(names, tmp_path):
    """Otherwise the last model is kept, measured and published as the best."""
    scores = iter([3, 2, 1])
    seen = []

    def score(_):
        seen.append(prompts(trainer.model))
        return {"score": next(scores)}

    parts = {"eval_dataset": make_data(4, dtype=torch.float32), "compute_metrics": score}
    trainer = make_run(tmp_path, names, parts, load_best_model_at_end=True, metric_for_best_model="score")
    trainer.train()
    assert not torch.equal(seen[0][names[-1]], seen[2][names[-1]])
    for name, context in prompts(trainer.model).items():
        assert torch.equal(context, seen[0][name])
    assert trainer.model.active_adapter == names[-1]


def make_run(output_dir, names, parts=None, **arguments) -> SharpPromptTrainer:
    epochs = {"num_train_epochs": 3, "save_strategy": "epoch", "eval_strategy": "epoch" if parts else "no"}
    data = make_data(12, dtype=torch.float32)
    return make_trainer(output_dir, make_model(*names), data, parts, **epochs, **arguments)


@pytest.mark.parametrize("names", NAMES)
def test_a_resumed_run_ends_on_the_same_bits(names, tmp_path):
    whole = make_run(tmp_path, names)
    whole.train()
    resumed = make_run(tmp_path, names)
    resumed.train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    for name, context in prompts(resumed.model).items():
        assert torch.equal(context, prompts(whole.model)[name])


def test_a_saved_model_loads_by_its_name(tmp_path):
    trainer = make_run(tmp_path, ("pets",))
    trainer.train()
    trainer.save_model()
    trainer.save_model()  # once more, over what is there
    loaded = PeftModel.from_pretrained(copy.deepcopy(load_clip(torch.float32)), tmp_path / "pets")
    assert torch.equal(prompts(loaded)["default"], prompts(trainer.model)["pets"])
