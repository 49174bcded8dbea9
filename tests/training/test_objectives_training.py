"""Objectives in the Trainer: a line of a recipe each, with every sharpness rule, in checkpoints, logs and the card."""

import json
import math

import pytest
import torch
from PIL import Image
from training.small_runs import accuracy, load_processor, make_data, make_images, make_model, make_trainer, prompt_of
from training.test_subspace_training import StopAt
from transformers import HfArgumentParser, TrainerCallback

from hf_sharp_prompt import SharpPromptTrainingArguments, objectives, sharpness
from hf_sharp_prompt.demo import DEFAULT_TASK, TASKS


NFL = {"novel_class_names": ["orange wedge", "pink cross"], "templates": "a photo of a {}."}
PROMPTSRC = {"average_mean": 2, "average_std": 1.0, "templates": "a photo of a {}."}
COMPOSED = {
    "GCSCoOp + NFL": {"sharpness": "gcsam", "objectives": {"nfl": NFL}},
    "SAM + KgCoOp + ProGrad": {"sharpness": "sam", "objectives": {"kgcoop": {"weight": 2.0}, "prograd": None}},
    "MESA + KgCoOp": {
        "sharpness": "mesa",
        "sharpness_args": {"decay": 0.8, "start": 1},
        "objectives": {"kgcoop": {"weight": 2.0}},
    },
    "F-SAM + PromptSRC": {"sharpness": "fsam", "objectives": {"promptsrc": PROMPTSRC}},
}
every_composition = pytest.mark.parametrize("name", COMPOSED)


def train(output_dir, **arguments):
    trainer = make_trainer(output_dir, **arguments)
    trainer.train()
    return trainer


@every_composition
def test_the_trainer_does_what_a_hand_written_loop_does(name, tmp_path):
    """Rule and objectives from names alone, against a loop that puts them together itself."""
    data, arguments = make_data(6), COMPOSED[name]
    trainer = train(
        tmp_path, data=data, num_train_epochs=3, lr_scheduler_type="constant", max_grad_norm=0, **arguments
    )
    model = make_model().train()
    made = SharpPromptTrainingArguments(str(tmp_path), use_cpu=True, **arguments)
    added = objectives.ObjectiveSum(made.make_objectives())
    added.begin_run(model, load_processor())
    context = next(each for each in model.parameters() if each.requires_grad)
    optimizer = torch.optim.SGD([context], lr=0.05, momentum=0.9)
    sharp = sharpness.SharpnessAware(made.make_sharpness_rule(), [context], optimizer=optimizer, seed=3)

    def evaluate(of=None):
        inputs = {"image_features": data.features[:, 0]}
        output = model(**inputs, labels=data.labels)
        term = added.term(objectives.Batch(model, inputs, output, data.labels), of)
        return term if of is not None else output.loss + term

    constraints = [
        sharpness.Constraint(each.name, lambda each=each: evaluate(each), each.constrain) for each in added.constraints
    ]
    for epoch in range(3):
        added.begin_step(model, epoch)
        sharp.backward(evaluate, constraints=constraints)
        optimizer.step()
        optimizer.zero_grad()
        added.end_step(model)
        added.end_epoch(model)
    added.end_run(model)
    torch.testing.assert_close(prompt_of(trainer.model), context.detach(), rtol=1e-10, atol=1e-12)
    last = next(entry for entry in reversed(trainer.state.log_history) if "grad_norm" in entry)
    assert {f"{each}_loss" for each in arguments["objectives"]} <= last.keys()
    assert ("prograd_cosine" in last) == ("prograd" in arguments["objectives"])


@every_composition
def test_accumulated_micro_batches_give_the_same_update(name, tmp_path):
    """Also of uneven ones: the batch is the batch."""
    whole = train(tmp_path / "whole", data=make_data(20), **COMPOSED[name])
    parts = train(
        tmp_path / "parts",
        data=make_data(20),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        **COMPOSED[name],
    )
    torch.testing.assert_close(prompt_of(parts.model), prompt_of(whole.model), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("step", "accumulation"), [(3, 1), (4, 2), (9, 1)])
def test_promptsrc_resumed_ends_on_the_same_bits(step, accumulation, tmp_path):
    """In the middle of an epoch, at its end and behind it: the running average of the prompts is in the checkpoint."""
    arguments = {
        **COMPOSED["F-SAM + PromptSRC"],
        "num_train_epochs": 3,
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 6 // accumulation,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    whole = train(tmp_path / "whole", **arguments)
    stopped = make_trainer(tmp_path / "parts", trainer_arguments={"callbacks": [StopAt(1, step)]}, **arguments)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = make_trainer(tmp_path / "parts", **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(prompt_of(resumed.model), prompt_of(whole.model))


class Prompts(TrainerCallback):
    """The prompts that each evaluation saw."""

    def __init__(self):
        self.evaluated = []

    def on_evaluate(self, args, state, control, model, **kwargs):
        self.evaluated.append(prompt_of(model))
        control.should_training_stop = state.global_step == self.stop_at

    stop_at = None


@pytest.mark.parametrize("stop_at", [None, 8])
def test_the_last_evaluation_sees_the_averaged_prompts(stop_at, tmp_path):
    """Otherwise what is reported is not what is saved. A run stopped early is averaged as well."""
    seen = Prompts()
    seen.stop_at = stop_at
    trainer = train(
        tmp_path,
        eval_strategy="epoch",
        num_train_epochs=3,
        objectives={"promptsrc": PROMPTSRC},
        trainer_arguments={"callbacks": [seen], "eval_dataset": make_data(10), "compute_metrics": accuracy},
    )
    plain = train(tmp_path, num_train_epochs=3, objectives={"promptsrc": PROMPTSRC | {"average_mean": 1000}})
    epochs = [*seen.evaluated[:2], prompt_of(plain.model)] if stop_at is None else seen.evaluated
    weights = [math.exp(-0.5 * (epoch - 2) ** 2) for epoch in range(1, len(epochs) + 1)]
    average = sum(weight * prompt for weight, prompt in zip(weights, epochs, strict=True)) / sum(weights)
    torch.testing.assert_close(prompt_of(trainer.model), average, rtol=1e-9, atol=1e-12)
    if stop_at is None:
        assert torch.equal(seen.evaluated[-1], prompt_of(trainer.model))


def test_subpt_with_sam_and_kgcoop(tmp_path):
    """The direction is projected last, and an early stage is no run to average."""
    trainer = make_trainer(
        tmp_path,
        sharpness="sam",
        objectives={"kgcoop": None, "prograd": None, "promptsrc": PROMPTSRC},
        num_train_epochs=4,
        subspace_epochs=4,
        subspace_rank=2,
        data=make_data(6),
    )
    initial = prompt_of(trainer.model).flatten()
    trainer.train()
    moved = prompt_of(trainer.model).flatten() - initial
    assert moved.norm() > 1e-4
    torch.testing.assert_close(trainer.subspace.project(moved), moved, rtol=1e-9, atol=1e-11)


def test_frozen_image_features_are_computed_once_per_micro_batch(tmp_path, monkeypatch):
    """With vision tokens a step encodes its images once without prompts, however many gradients it evaluates."""
    model = make_model(torch.float32, num_vision_tokens=2)
    calls, encode = [], model.base_model.encode_images
    monkeypatch.setattr(model.base_model, "encode_images", lambda **inputs: calls.append(1) or encode(**inputs))
    train(
        tmp_path,
        model=model,
        data=make_images(4),
        sharpness="sam",
        objectives={"promptsrc": PROMPTSRC, "prograd": {}},
        per_device_train_batch_size=2,
        num_train_epochs=1,
    )
    assert len(calls) == 2


def test_the_card_names_the_objectives(tmp_path):
    objective = {"kgcoop": {"weight": 2.0}, "nfl": NFL | {"novel_class_names": [f"`evil` {n}" for n in range(99)]}}
    trainer = train(tmp_path, objectives=objective, num_train_epochs=1)
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "along the sharpness rule `SAM(rho=0.05)`" in card
    assert "with the objective `KgCoOp(weight=2.0, template=a photo of a {}.)`" in card
    assert "NFL(novel_class_names=[evil 0, evil 1, evil 2, evil 3, evil 4, evil 5, ...], weight=1.0" in card
    assert {"kgcoop", "nfl", "sam"} <= set(card.split("---")[1].replace("- ", "").split())


def test_a_checkpoint_of_other_objectives(tmp_path):
    train(tmp_path, sharpness="sam", objectives=["kgcoop"], num_train_epochs=1, save_strategy="epoch")
    message = "of a run with the sharpness rule 'sam' and the objectives kgcoop, but this one follows 'sam'"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, sharpness="sam").train(resume_from_checkpoint=True)


class TestArguments:
    @pytest.mark.parametrize(
        "given",
        [
            {"kgcoop": {}, "mesa": None},
            ["kgcoop", "mesa"],
            '{"kgcoop": {}, "mesa": {}}',
            '["kgcoop", "mesa"]',
        ],
    )
    def test_dicts_lists_and_json(self, given, tmp_path):
        arguments = SharpPromptTrainingArguments(str(tmp_path), sharpness="sam", objectives=given)
        assert [each.name for each in arguments.make_objectives()] == ["kgcoop", "mesa"]

    def test_on_the_command_line_and_in_a_recipe(self, tmp_path):
        parser = HfArgumentParser(SharpPromptTrainingArguments)
        chosen = json.dumps({"kgcoop": {"weight": 3}, "nfl": NFL})
        (arguments,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path), "--objectives", chosen])
        assert [each.weight for each in arguments.make_objectives()] == [3, 1]
        (arguments,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path), "--objectives", "kgcoop"])
        assert [each.name for each in arguments.make_objectives()] == ["kgcoop"]
        parser.set_defaults(objectives={"nfl": NFL})
        (arguments,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path)])
        assert [each.name for each in arguments.make_objectives()] == ["nfl"]
        assert json.loads(arguments.to_json_string())["objectives"] == {"nfl": NFL}

    def test_saf_and_mesa_are_objectives_however_they_are_chosen(self, tmp_path):
        """Otherwise two ways to say the same run make two runs."""
        chosen = {"weight": 2.0}
        old = SharpPromptTrainingArguments(
            str(tmp_path), sharpness="saf", sharpness_args=chosen, objectives=["kgcoop"], use_cpu=True
        )
        new = SharpPromptTrainingArguments(
            str(tmp_path), sharpness="none", objectives={"saf": chosen, "kgcoop": None}, use_cpu=True
        )
        assert (old.sharpness, old.sharpness_args) == ("none", None)
        assert old.objectives == {"saf": chosen, "kgcoop": None}
        assert old.identity() == new.identity()
        assert repr(old.make_objectives()) == repr(new.make_objectives())
        assert old.make_sharpness_rule().name == "none"

    @pytest.mark.parametrize("source", ["folder", "demo task", "file", "list that ships"])
    def test_a_data_sets_class_names_may_be_the_novel_ones(self, source, tmp_path):
        """They are read when training begins, so that arguments can be made where the data is not."""
        if source == "folder":
            for name in ("grey_moon", "yellow_ring"):
                (tmp_path / "images" / name).mkdir(parents=True)
                for number in range(4):
                    Image.new("RGB", (48, 48)).save(tmp_path / "images" / name / f"{number}.png")
        (tmp_path / "names.txt").write_text("grey moon\nyellow ring\n")
        given, expected = {
            "folder": (str(tmp_path / "images"), ["grey moon", "yellow ring"]),
            "demo task": (DEFAULT_TASK, [*TASKS[DEFAULT_TASK].classes]),
            "file": (str(tmp_path / "names.txt"), str(tmp_path / "names.txt")),
            "list that ships": ("imagenet_100", "imagenet_100"),
        }[source]
        arguments = SharpPromptTrainingArguments(
            str(tmp_path), objectives={"nfl": {"novel_class_names": given}}, use_cpu=True
        )
        assert arguments.objectives == {"nfl": {"novel_class_names": given}}
        assert arguments.make_objectives()[0].novel_class_names == expected

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"objectives": "kgcop"}, "no objective 'kgcop'; did you mean 'kgcoop'"),
            ({"objectives": {"kgcoop": {"lambda": 1}}}, "kgcoop has no hyperparameter 'lambda'"),
            ({"objectives": {"kgcoop": 8.0}}, r"objectives must map names to their hyperparameters.*there is 8\.0"),
            ({"objectives": ["kgcoop", "kgcoop"]}, "stand more than once: kgcoop"),
            ({"objectives": ["saf"], "sharpness": "saf"}, "saf is chosen twice, by sharpness and by objectives"),
        ],
    )
    def test_what_is_wrong_is_said(self, arguments, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            SharpPromptTrainingArguments(str(tmp_path), **arguments)


def test_the_processing_classs_tokenizer_reads_the_texts(tmp_path):
    model = make_model()
    model.active_config.tokenizer_name_or_path = None
    with pytest.raises(ValueError, match="give the Trainer a processing_class that holds the tokenizer"):
        train(tmp_path, model=model, objectives="kgcoop")
    train(tmp_path, model=model, objectives="kgcoop", trainer_arguments={"processing_class": load_processor()})


def test_names_in_use():
    assert set(objectives.names()) == {"kgcoop", "mesa", "nfl", "prograd", "promptsrc", "saf"}
