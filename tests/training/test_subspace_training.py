"""SubPT in one call of train(): an early stage, its subspace, and a run from the start within it."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from training.small_runs import accuracy, make_data, make_model, make_trainer, prompt_of
from transformers import TrainerCallback

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments, sharpness


SUBPT = {"num_train_epochs": 6, "subspace_epochs": 5, "subspace_rank": 3, "lr_scheduler_type": "linear"}


class StopAt(TrainerCallback):
    """Ends the process's run at a step of a stage, as a kill would."""

    def __init__(self, stage: int, step: int) -> None:
        self.stage, self.step, self.stages = stage, step, 0

    def on_train_begin(self, *args, **kwargs):
        self.stages += 1

    def on_step_end(self, args, state, control, **kwargs):
        if self.stages == self.stage and state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("rule", ["none", "sam", "fsam"])
def test_it_does_what_a_hand_written_loop_does(rule, tmp_path):
    """Train; principal components of the prompts after each epoch; start again and project every direction."""
    data = make_data(6)
    trainer = make_trainer(tmp_path, sharpness=rule, data=data, max_grad_norm=0, **SUBPT)
    trainer.train()

    model = make_model()
    initial = prompt_of(model).reshape(-1)
    context = next(each for each in model.parameters() if each.requires_grad)

    def run(epochs: int, components: torch.Tensor | None) -> list[torch.Tensor]:
        with torch.no_grad():
            context.copy_(initial.view_as(context))
        optimizer = torch.optim.SGD([context], lr=0.05, momentum=0.9)
        sharp = sharpness.SharpnessAware(sharpness.create(rule), [context], optimizer=optimizer, seed=3)
        snapshots = []
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - epoch / 6)  # linear over the whole run
            sharp.backward(lambda: model(image_features=data.features[:, 0], labels=data.labels).loss)
            if components is not None:
                context.grad = (components.T @ components @ context.grad.reshape(-1)).view_as(context)
            optimizer.step()
            optimizer.zero_grad()
            snapshots.append(context.detach().reshape(-1).clone())
        return snapshots

    components = torch.from_numpy(PCA(3, svd_solver="full").fit(torch.stack(run(5, None)).numpy()).components_)
    torch.testing.assert_close(prompt_of(trainer.model).reshape(-1), run(6, components)[-1], rtol=1e-9, atol=1e-11)


def test_the_prompt_moves_in_the_subspace_only(tmp_path):
    trainer = make_trainer(tmp_path, **SUBPT)
    initial = prompt_of(trainer.model).reshape(-1)
    trainer.train()
    moved = prompt_of(trainer.model).reshape(-1) - initial
    assert moved.norm() > 0.01
    torch.testing.assert_close(trainer.subspace.project(moved), moved, rtol=1e-9, atol=1e-11)
    shares = [trainer.state.log_history[0][f"subspace_variance_{index}"] for index in (1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-12
    assert trainer.state.global_step == 24, "and it is a whole run"


def in_micro_batches(accumulation: int) -> dict[str, object]:
    """The arguments of a run whose steps are the same, from so many micro-batches each."""
    batch = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 6 // accumulation}
    return SUBPT | batch | {"sharpness": "fsam"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[int], SharpPromptTrainer]:
    """Trains without a stop, once for each number of micro-batches."""

    @functools.cache
    def train(accumulation: int) -> SharpPromptTrainer:
        trainer = make_trainer(tmp_path_factory.mktemp("whole"), **in_micro_batches(accumulation))
        trainer.train()
        return trainer

    return train


@pytest.mark.parametrize(("stage", "step", "accumulation"), [(1, 3, 1), (1, 7, 2), (2, 1, 2), (2, 7, 1)])
def test_a_run_resumed_in_either_stage_ends_on_the_same_bits(stage, step, accumulation, whole, tmp_path):
    """The early stage is minutes of work on a real task, and a preemption in it must not change the subspace."""
    arguments = in_micro_batches(accumulation) | {"save_strategy": "steps", "save_steps": 2}
    stopped = make_trainer(tmp_path / "parts", trainer_arguments={"callbacks": [StopAt(stage, step)]}, **arguments)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = make_trainer(tmp_path / "parts", **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(prompt_of(resumed.model), prompt_of(whole(accumulation).model))
    assert torch.equal(resumed.subspace.components, whole(accumulation).subspace.components)
    assert not (tmp_path / "parts" / "_early").exists()
    assert (tmp_path / "parts" / "checkpoint-24" / "subspace.safetensors").is_file()


def test_the_early_stage_evaluates_nothing_and_pushes_nothing(tmp_path, monkeypatch):
    """Its prompts are thrown away."""
    evaluated = []

    class Seen(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            evaluated.append(state.global_step)

    trainer = make_trainer(
        tmp_path,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        trainer_arguments={"eval_dataset": make_data(20), "compute_metrics": accuracy, "callbacks": [Seen()]},
        **SUBPT,
    )
    trainer.train()
    assert evaluated == [4, 8, 12, 16, 20, 24]
    assert trainer.evaluate()["eval_accuracy"] == trainer.state.best_metric


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subspace_epochs": 5}, "subspace_epochs is set but subspace_rank is not"),
        ({"subspace_rank": 5}, "subspace_rank is set but subspace_epochs is not"),
        ({"subspace_epochs": 5, "subspace_rank": 5}, "subspace_rank must be from 1 to 4, got 5"),
        ({"subspace_epochs": 5, "subspace_rank": 0}, "subspace_rank must be from 1 to 4, got 0"),
    ],
)
def test_numbers_that_do_not_fit_each_other(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        SharpPromptTrainingArguments(str(tmp_path), **arguments)


def test_an_early_stage_beyond_the_run(tmp_path):
    trainer = make_trainer(tmp_path, **(SUBPT | {"num_train_epochs": 4}))
    with pytest.raises(ValueError, match="subspace_epochs is 5, but the run has 4 epochs"):
        trainer.train()


def test_a_checkpoint_of_another_subspace(tmp_path):
    make_trainer(tmp_path, save_strategy="epoch", **SUBPT).train()
    checkpoint = str(Path(tmp_path, "checkpoint-24"))
    with pytest.raises(ValueError, match="in a subspace of rank 3, but subspace_rank is 2"):
        make_trainer(tmp_path, **(SUBPT | {"subspace_rank": 2})).train(resume_from_checkpoint=checkpoint)
    make_trainer(tmp_path / "plain", save_strategy="epoch").train()
    with pytest.raises(ValueError, match="is of a run without a subspace"):
        make_trainer(tmp_path / "plain", **SUBPT).train(resume_from_checkpoint=str(tmp_path / "plain/checkpoint-8"))
