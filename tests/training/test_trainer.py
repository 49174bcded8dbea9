"""SharpPromptTrainer is a Trainer: what users turn on there works here, with one rule's direction per step."""

import copy
import functools
import math
from pathlib import Path

import datasets
import pytest
import safetensors.torch
import torch
from sharpness.every_rule import NEEDS_LABELS, make_rule, promised_cost
from support.demo_images import few_images
from support.rotation import rotate
from training.small_runs import (
    CLASSES,
    KINDS,
    RULES,
    SETTINGS,
    WIDTH,
    accuracy,
    load_processor,
    make_data,
    make_model,
    make_trainer,
    prompt_of,
    train,
)
from transformers import TrainerCallback, default_data_collator

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments, objectives, sharpness
from hf_sharp_prompt.objectives import sharpness_aware_names


@pytest.mark.parametrize("rule", RULES)
def test_the_trainer_does_what_a_hand_written_loop_does(rule, tmp_path):
    """Otherwise numbers from the Trainer could not be compared with anybody's loop."""
    data = make_data(6)
    by_trainer = train(
        tmp_path,
        sharpness=rule,
        rho_schedule="linear",
        data=data,
        num_train_epochs=5,
        lr_scheduler_type="constant",
    )
    model = make_model()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    added = [objectives.create(rule, **SETTINGS[rule])] if rule in sharpness_aware_names() else []
    added, followed = objectives.ObjectiveSum(added), make_rule("none" if added else rule)
    sharp = sharpness.SharpnessAware(followed, parameters, optimizer=optimizer, rho_schedule="linear", seed=3)

    def loss() -> torch.Tensor:
        inputs = {"image_features": data.features[:, 0]}
        output = model(**inputs, labels=data.labels)
        if rule not in NEEDS_LABELS:
            batch = objectives.Batch(model, inputs, output, data.labels, torch.arange(6))
            return output.loss + added.term(batch)
        return torch.nn.functional.cross_entropy(output.logits, data.labels, reduction="none")

    for step in range(5):
        sharp.epoch, sharp.progress = step, step / 5
        added.begin_step(model, step)
        sharp.backward(loss, data.labels)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        added.end_step(model)
    torch.testing.assert_close(by_trainer, prompt_of(model), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("rule", "micro_batch", "steps"), rotate(KINDS, [5, 3], [3, 4]))
def test_accumulated_micro_batches_give_the_same_update(rule, micro_batch, steps, tmp_path):
    """SAM per micro-batch is another method; who lowers the batch size for memory must not get it by accident."""
    data = make_data(12)
    whole = train(tmp_path / "whole", sharpness=rule, data=data, per_device_train_batch_size=12)
    accumulated = train(
        tmp_path / "accumulated",
        sharpness=rule,
        data=data,
        per_device_train_batch_size=micro_batch,  # 5 + 5 + 2, or four times 3
        gradient_accumulation_steps=steps,
    )
    torch.testing.assert_close(accumulated, whole, rtol=1e-10, atol=1e-12)


class Tampering(TrainerCallback):
    """Lets gradient evaluations overflow in steps 2 and 3, and 5, and keeps what there was before and after each.

    Args:
        evaluation: Which of the step's; -1 is the last.
    """

    def __init__(self, trainer: SharpPromptTrainer, evaluations: dict[int, int]) -> None:
        self.trainer, self.evaluations = trainer, evaluations
        self.calls, self.before, self.after = 0, {}, {}
        self.compute_loss = trainer.compute_loss
        trainer.compute_loss = self.tampered
        trainer.add_callback(self)

    def tampered(self, *args, **kwargs):
        loss = self.compute_loss(*args, **kwargs)
        number, self.calls = self.calls, self.calls + 1
        return loss * 1e38 if self.evaluations.get(self.trainer.state.global_step) == number else loss

    def on_step_begin(self, args, state, control, **kwargs):
        self.calls, self.before[state.global_step] = 0, self.snapshot()

    def on_step_end(self, args, state, control, **kwargs):
        self.after[state.global_step - 1] = self.snapshot()

    def snapshot(self) -> dict[str, torch.Tensor | float]:
        trainer = self.trainer
        momentum = [each["momentum_buffer"] for each in trainer.optimizer.state.values()]
        tensors = {"prompt": prompt_of(trainer.model), **dict(enumerate(momentum))}
        tensors |= trainer.sharpness.state_dict() | trainer.objectives.state_dict()
        return {name: tensor.clone() for name, tensor in tensors.items()} | {
            "scale": trainer.accelerator.scaler.get_scale() if trainer.accelerator.scaler else 1.0
        }


def scale_losses(trainer: SharpPromptTrainer, scale: float = 2.0**16) -> SharpPromptTrainer:
    """Gives a Trainer with fp16=True what it has on a GPU and not on the CPU."""
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.accelerator.native_amp = True
    return trainer


def make_trainer_in(precision: str, output_dir, **arguments) -> SharpPromptTrainer:
    mixed = {"fp16": precision == "fp16", "bf16": precision == "bf16"}
    data = make_data(12, torch.float32)
    trainer = make_trainer(output_dir, make_model(torch.float32), data, **mixed, **arguments)
    return scale_losses(trainer, 2.0**8) if precision == "fp16" else trainer


def evaluations_of(rule: str) -> int:
    return round(promised_cost("none" if rule in sharpness_aware_names() else rule, 1, 1))


@pytest.mark.parametrize("rule", KINDS)
def test_a_step_that_overflows_is_skipped_and_training_goes_on(rule, tmp_path):
    """Under fp16 overflows are daily business: nothing of such a step may stay, in the first pass or the last."""
    steps = [2, 3, 5]
    trainer = scale_losses(make_trainer_in("fp16", tmp_path, sharpness=rule, num_train_epochs=4), 2.0**8)
    first_evaluation_only = rule in {"looksam", "graphsam"}  # which look once in most steps
    last = 0 if first_evaluation_only else evaluations_of(rule) - 1
    tampering = Tampering(trainer, {2: 0, 3: last, 5: last})
    trainer.train()
    assert trainer.state.global_step == 8
    for step in range(8):
        before, after = tampering.before[step], tampering.after[step]
        skipped = step in steps
        assert after["scale"] == before["scale"] / (2 if skipped else 1)
        assert before.keys() <= after.keys()
        same = {name: torch.equal(tensor, after[name]) for name, tensor in before.items() if name != "scale"}
        assert all(same.values()) if skipped else not same["prompt"]
    seen = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry in seen:
        values = [
            value for name, value in entry.items() if name != "grad_norm"
        ]  # the Trainer's, of the refused direction
        assert all(math.isfinite(value) for value in values)
        assert ("gradient_norm" in entry) == (entry["step"] - 1 not in steps)


@pytest.mark.parametrize(("rule", "precision"), [*rotate(KINDS, ["fp16", "bf16"]), ("sam", "fp16")])
def test_mixed_precision_follows_the_same_direction(rule, precision, tmp_path):
    """Otherwise fp16 or bf16 is another method than the one whose figures were published."""
    tolerance = {"fp16": 0.01, "bf16": 0.1}[precision]

    class Sees(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            directions.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))

    directions = []
    # The prompt stands still but for a leap, so that in the second step there is something to look back to.
    arguments = {"learning_rate": 0.0, "max_grad_norm": 1e9, "per_device_train_batch_size": 12}
    for each in ("none", precision):
        callbacks = {"callbacks": [Sees(), Disturb()]}
        make_trainer_in(each, tmp_path, sharpness=rule, trainer_arguments=callbacks, **arguments).train()
    expected, actual = torch.stack(directions[:2]), torch.stack(directions[2:])
    assert (actual - expected).norm() < tolerance * expected.norm()
    assert not torch.equal(actual, expected)


@pytest.mark.parametrize("rule", ["sam", "sagm", "fsam"])
def test_m_sharpness_applies_the_rule_to_each_micro_batch(rule, tmp_path):
    """Who wants SAM's perturbations per micro-batch gets them by asking, weighted by the micro-batches' sizes."""
    data = make_data(12)
    arguments = {"data": data, "per_device_train_batch_size": 5, "gradient_accumulation_steps": 3, "max_grad_norm": 0}
    steps = {"max_steps": 2, "lr_scheduler_type": "constant"}
    trainer = make_trainer(tmp_path, sharpness=rule, m_sharpness="micro_batch", **arguments, **steps)
    order = []

    class Sees(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            order.append(trainer.seen)
            trainer.seen = []

    trainer.seen = []
    real = trainer.training_step
    trainer.training_step = lambda model, inputs, count: trainer.seen.append(inputs) or real(model, inputs, count)
    trainer.add_callback(Sees())
    trainer.train()
    model = make_model()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    sharp = sharpness.SharpnessAware(make_rule(rule), parameters, optimizer=optimizer, m_sharpness="micro_batch")
    for batches in order:
        assert [len(batch["labels"]) for batch in batches] == [5, 5, 2]

        def losses(batch) -> torch.Tensor:
            logits = model(image_features=batch["image_features"]).logits
            return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")

        sharp.backward([functools.partial(losses, batch) for batch in batches])
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(prompt_of(trainer.model), prompt_of(model), rtol=1e-10, atol=1e-12)
    whole = train(tmp_path, sharpness=rule, **arguments, **steps)
    assert not torch.allclose(prompt_of(model), whole, rtol=1e-10, atol=1e-12)


def test_accumulation_also_holds_with_label_smoothing(tmp_path):
    """Label smoothing takes another path through compute_loss."""
    arguments = {"data": make_data(12), "label_smoothing_factor": 0.1}
    whole = train(tmp_path / "whole", per_device_train_batch_size=12, **arguments)
    accumulated = train(
        tmp_path / "accumulated", per_device_train_batch_size=5, gradient_accumulation_steps=3, **arguments
    )
    torch.testing.assert_close(accumulated, whole, rtol=1e-6, atol=1e-8)  # the smoother sums in float32
    assert not torch.equal(whole, train(tmp_path / "hard", data=make_data(12), per_device_train_batch_size=12))


def test_logs_carry_what_the_rule_saw(tmp_path):
    """The sharpness that was reached is what a user of these methods looks for in the log."""
    seen = []

    class Seen(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    trainer = make_trainer(tmp_path, sharpness="gcsam", trainer_arguments={"callbacks": [Seen()]})
    trainer.train()
    steps = [logs for logs in seen if "loss" in logs]
    assert len(steps) == trainer.state.global_step == 8
    for logs in steps:
        # The Trainer sums its losses in float32.
        assert logs["sharpness"] == pytest.approx(logs["perturbed_loss"] - logs["loss"], abs=1e-5)
        assert -1 <= logs["cosine"] <= 1
        assert logs["gradient_norm"] > 0
        assert logs["grad_norm"] > 0
        assert logs["branch_gradient"] + logs["branch_bisector"] + logs["branch_perturbed"] == 1
    plain = make_trainer(tmp_path / "plain", sharpness="none")
    plain.train()
    assert "perturbed_loss" not in plain.state.log_history[0]


@pytest.mark.parametrize("objective", sharpness_aware_names())
def test_logs_carry_the_objectives_part_of_the_loss(objective, tmp_path):
    """Without it nobody sees whether λ is in proportion; the loss has it in it."""
    logs = []
    for weight in (0.0, 2.0):
        settings = {**SETTINGS[objective], "weight": weight}
        trainer = make_trainer(
            tmp_path, sharpness=objective, sharpness_args=settings, learning_rate=1e-9, gradient_accumulation_steps=2
        )
        trainer.add_callback(Disturb())  # so that there is something to stay close to
        trainer.train()
        logs.append([entry for entry in trainer.state.log_history if "loss" in entry])
    for without, of_it in zip(*logs, strict=True):
        assert without[f"{objective}_loss"] == 0
        assert (of_it[f"{objective}_loss"] > 1e-3) == (of_it["epoch"] > 1)
        assert of_it["loss"] - without["loss"] == pytest.approx(of_it[f"{objective}_loss"], abs=1e-4)


class Disturb(TrainerCallback):
    """Moves the prompt at the first epoch's end."""

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += torch.linspace(-1, 1, parameter.numel()).view_as(parameter)


@pytest.mark.parametrize("data", ["features", "images", "a collator of one's own", "columns removed"])
def test_samples_are_remembered_whatever_the_data(data, tmp_path):
    """Nobody has to number samples for SAF; logits are of the sample that they are kept for."""
    arguments, features = {"per_device_train_batch_size": 4}, make_data(10)
    if data == "a collator of one's own":
        arguments["trainer_arguments"] = {"data_collator": default_data_collator}
    elif data == "columns removed":
        rows = {"image_features": features.features[:, 0].tolist(), "labels": features.labels.tolist()}
        features = datasets.Dataset.from_dict(rows | {"note": ["unused"] * 10}).with_format("torch")
        arguments |= {"remove_unused_columns": True, "trainer_arguments": {"data_collator": default_data_collator}}
    elif data == "images":
        features = few_images(5, train=2)["train"].shuffle(0)
        arguments |= {"trainer_arguments": {"processing_class": load_processor()}}
    model = Linear().float() if data == "columns removed" else make_model()
    names = CLASSES if data != "images" else features.features["label"].names
    if data == "images":
        model.set_classes(names, load_processor(), "{}.")
    trainer = make_trainer(
        tmp_path,
        model,
        features,
        sharpness="saf",
        sharpness_args={"start": 0, "weight": 0.0},
        learning_rate=0.0,
        **arguments,
    )
    trainer.train()
    logits = trainer.objectives.state_dict()["saf.logits"][1]
    batch = (trainer.data_collator if data == "images" else default_data_collator)(
        [features[row] for row in range(10)]
    )
    if data == "images":
        batch["pixel_values"] = batch["pixel_values"].double()
    with torch.no_grad():
        expected = model(**{name: value for name, value in batch.items() if name != "note"})["logits"]
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
    assert "sample_index" not in next(iter(trainer.get_eval_dataloader(trainer.train_dataset)))


def test_data_that_only_streams_cannot_be_remembered(tmp_path):
    stream = datasets.Dataset.from_dict({"labels": [0, 1]}).to_iterable_dataset()
    trainer = make_trainer(tmp_path, data=stream, sharpness="saf", max_steps=1)
    with pytest.raises(ValueError, match=r"saf remembers each sample of the train dataset, but .* no length"):
        trainer.train()


def test_an_objective_is_not_part_of_the_evaluation(tmp_path):
    """eval_loss must stay comparable between methods."""
    losses = []
    for rule in ("none", *sharpness_aware_names()):
        trainer = make_trainer(
            tmp_path, sharpness=rule, learning_rate=0.0, trainer_arguments={"eval_dataset": make_data(5)}
        )
        trainer.train()
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses == [losses[0]] * 3


@pytest.mark.parametrize("objective", sharpness_aware_names())
def test_a_step_that_fails_leaves_the_objective_alone(objective, tmp_path):
    """As when memory runs out in the middle of a step and a notebook's user saves and goes on."""

    class Fails(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    trainer = make_trainer(tmp_path, sharpness=objective, trainer_arguments={"callbacks": [Fails()]})
    before = {}

    class Sees(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            before.update({name: tensor.clone() for name, tensor in trainer.objectives.state_dict().items()})

    trainer.add_callback(Sees())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert before
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.objectives.state_dict().items())


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    """With load_best_model_at_end the prompt is the best checkpoint's, not the last step's."""
    trainer = make_trainer(
        tmp_path,
        num_train_epochs=4,
        learning_rate=5.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        trainer_arguments={"eval_dataset": make_data(20), "compute_metrics": accuracy},
    )
    trainer.train()
    best = safetensors.torch.load_file(Path(trainer.state.best_model_checkpoint, "adapter_model.safetensors"))
    torch.testing.assert_close(prompt_of(trainer.model), next(iter(best.values())), rtol=0, atol=0)
    assert trainer.evaluate()["eval_accuracy"] == trainer.state.best_metric


def test_gradient_clipping_bounds_the_direction(tmp_path):
    """max_grad_norm clips what the optimizer gets: the rule's direction."""
    learning_rate, bound = 0.1, 1e-3
    before = prompt_of(make_model())
    arguments = {"optim_args": None, "lr_scheduler_type": "constant", "learning_rate": learning_rate, "max_steps": 1}
    clipped = train(tmp_path, max_grad_norm=bound, **arguments)
    assert (clipped - before).norm() <= learning_rate * bound * (1 + 1e-6)
    assert (train(tmp_path, max_grad_norm=0, **arguments) - before).norm() > learning_rate * bound * 10


def test_torch_compile_gives_the_same_prompts(tmp_path):
    """--torch_compile is a flag that users try first."""
    plain = train(tmp_path / "plain")
    compiled = train(tmp_path / "compiled", torch_compile=True, torch_compile_backend="eager")
    torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-11)


def test_hyperparameter_search_tries_radii(tmp_path):
    """rho is the one hyperparameter that everybody searches for."""
    trainer = SharpPromptTrainer(
        None,
        make_trainer(tmp_path).args,
        model_init=lambda: make_model(),
        train_dataset=make_data(),
        eval_dataset=make_data(20),
        compute_metrics=accuracy,
    )
    trainer.args.eval_strategy = "epoch"
    used = []

    def space(trial):
        return {"sharpness_args": {"rho": trial.suggest_float("rho", 0.01, 0.5)}}

    class Used(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            used.append(trainer.sharpness.rule.rho)

    trainer.add_callback(Used())
    best = trainer.hyperparameter_search(space, lambda metrics: metrics["eval_accuracy"], 2, "maximize", "optuna")
    assert len(set(used)) == 2
    assert best.hyperparameters["rho"] in used


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(WIDTH, len(CLASSES), dtype=torch.float64)

    def forward(self, image_features, labels=None):
        logits = self.linear(image_features)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("rule", sorted(NEEDS_LABELS - {"focalsam"}), ids=str)  # It takes the losses of the logits.
def test_a_model_that_cannot_divide_by_the_whole_batch_is_refused(rule, tmp_path):
    """Its mean over the tail samples alone is another loss, and none at all in a batch without them."""
    with pytest.raises(ValueError, match=f"'{rule}' tells classes apart.* forward must take num_items_in_batch"):
        make_trainer(tmp_path, sharpness=rule, model=Linear()).train()

    def loss(outputs, labels, num_items_in_batch) -> torch.Tensor:
        total = torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum")
        return total / num_items_in_batch

    arguments = {"compute_loss_func": loss}
    make_trainer(tmp_path, sharpness=rule, model=Linear(), trainer_arguments=arguments).train()


def test_a_model_that_is_not_a_prompt_trains_too(tmp_path):
    """The Trainer is for prompts, but a rule does not care."""
    trainer = make_trainer(tmp_path, model=Linear())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_only_the_prompt_changes(tmp_path):
    """Frozen means frozen, also after a whole run."""
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    make_trainer(tmp_path, model=model).train()
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ["base_model.model.text_model.embeddings.clip_prompt_context.default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sharpness": "sma"}, "no sharpness rule 'sma'; did you mean 'sam'"),
        ({"sharpness": "sam", "sharpness_args": {"roh": 1}}, "no hyperparameter 'roh'; did you mean 'rho'"),
        ({"sharpness": "sam", "sharpness_args": {"rho": -1}}, "rho must be a finite number >= 0, got -1"),
        ({"sharpness": "sam", "sharpness_args": '{"rho": NaN}'}, "rho must be a finite number >= 0, got nan"),
        ({"sharpness": "sam", "sharpness_args": "rho=0.1"}, "sharpness_args must be a JSON object"),
    ],
)
def test_a_wrong_rule_is_refused_before_anything_is_loaded(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        SharpPromptTrainingArguments(str(tmp_path), **arguments)


def test_data_parallel_within_a_process_is_refused(tmp_path):
    """torch.nn.DataParallel would perturb the original and train on replicas."""
    trainer = make_trainer(tmp_path)
    trainer.args._n_gpu = 2
    with pytest.raises(ValueError, match="accelerate launch"):
        trainer.create_optimizer()
