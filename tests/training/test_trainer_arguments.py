"""Every argument of transformers' Trainer either works here or is refused by its name."""

import dataclasses

import pytest
import torch
from datasets import Dataset, Features, Image, Value
from training.small_runs import accuracy, load_processor, make_data, make_model, make_trainer
from transformers import TrainerCallback, TrainingArguments

from hf_sharp_prompt import SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.training.arguments import CHOOSING_THE_BEST, NOT_IDENTIFYING


def run(tmp_path, parts=None, steps=2, **arguments):
    """Train two steps in float32 on features, with an evaluation where there is data for it."""
    settings = {"max_steps": steps, "per_device_train_batch_size": 4, **arguments}
    trainer = make_trainer(
        tmp_path,
        model=make_model(torch.float32),
        data=make_data(12, dtype=torch.float32),
        trainer_arguments=parts,
        **settings,
    )
    trainer.train()
    return trainer


REFUSED = {
    "neftune_noise_alpha": {"neftune_noise_alpha": 5.0},
    "num_train_epochs": {"num_train_epochs": 0},
    "fsdp": {"fsdp": True},
    "deepspeed": {"deepspeed": {}},
    "include_num_input_tokens_seen": {"include_num_input_tokens_seen": "all"},
    "use_liger_kernel": {"use_liger_kernel": True},
    "optim='lomo'": {"optim": "lomo"},
    "optim='galore_adamw_layerwise'": {"optim": "galore_adamw_layerwise", "optim_target_modules": "all-linear"},
    "train_sampling_strategy='group_by_length'": {"train_sampling_strategy": "group_by_length"},
    "train_sampling_strategy='batch_rebalance'": {"train_sampling_strategy": "batch_rebalance"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused_by_name(name, tmp_path):
    """An argument that is ignored, or fails in the middle of transformers, costs a run or an hour."""
    with pytest.raises(ValueError, match=name):
        run(tmp_path, **{"max_steps": -1 if name == "num_train_epochs" else 2, **REFUSED[name]})


class Seen(TrainerCallback):
    def __init__(self):
        self.evaluations = 0

    def on_evaluate(self, *args, **kwargs):
        self.evaluations += 1


def metrics_of_inputs_and_losses(prediction):
    assert prediction.inputs.shape[0] == len(prediction.losses) == len(prediction.label_ids)
    return {"seen": len(prediction.inputs)}


class Batched:
    def __init__(self):
        self.right, self.all = 0, 0

    def __call__(self, prediction, compute_result):
        self.right += int((prediction.predictions.argmax(-1) == prediction.label_ids).sum())
        self.all += len(prediction.label_ids)
        return {"accuracy": self.right / self.all, "count": self.all} if compute_result else {}


def evaluated(**parts):
    return {"eval_dataset": make_data(10, dtype=torch.float32), "compute_metrics": accuracy, **parts}


def last(trainer, name):
    return next(entry[name] for entry in reversed(trainer.state.log_history) if name in entry)


# Argument → what is given besides, and what shows that it worked.
WORKING = {
    "include_for_metrics": (
        {"include_for_metrics": ["inputs", "loss"]},
        {"compute_metrics": metrics_of_inputs_and_losses},
        lambda trainer: trainer.evaluate()["eval_seen"] == 10,
    ),
    "batch_eval_metrics": (
        {"batch_eval_metrics": True, "per_device_eval_batch_size": 4},
        lambda: {"compute_metrics": Batched()},
        lambda trainer: trainer.evaluate()["eval_count"] == 10,
    ),
    "eval_on_start": (
        {"eval_on_start": True},
        lambda: {"callbacks": [Seen()]},
        lambda trainer: "eval_loss" in trainer.state.log_history[0],
    ),
    "eval_accumulation_steps": (
        {"eval_accumulation_steps": 1, "per_device_eval_batch_size": 3},
        {},
        lambda trainer: "eval_accuracy" in trainer.evaluate(),
    ),
    "prediction_loss_only": (
        {"prediction_loss_only": True},
        {"compute_metrics": None},
        lambda trainer: trainer.predict(make_data(4, dtype=torch.float32)).predictions is None,
    ),
    "eval_do_concat_batches": (
        {"eval_do_concat_batches": False, "per_device_eval_batch_size": 4},
        {"compute_metrics": lambda prediction: {"batches": len(prediction.predictions)}},
        lambda trainer: trainer.evaluate()["eval_batches"] == 3,
    ),
    "preprocess_logits_for_metrics": (
        {},
        {
            "preprocess_logits_for_metrics": lambda logits, labels: logits.argmax(-1),
            "compute_metrics": lambda prediction: {"dimensions": prediction.predictions.ndim},
        },
        lambda trainer: trainer.evaluate()["eval_dimensions"] == 1,
    ),
    "optimizers": (
        {},
        lambda: {"optimizers": (None, None)},
        lambda trainer: isinstance(trainer.optimizer.optimizer, torch.optim.SGD),
    ),
    "optimizer_cls_and_kwargs": (
        {},
        {"optimizer_cls_and_kwargs": (torch.optim.Adagrad, {"lr": 0.5})},
        lambda trainer: isinstance(trainer.optimizer.optimizer, torch.optim.Adagrad),
    ),
    "compute_loss_func": (
        {},
        {"compute_loss_func": lambda outputs, labels, num_items_in_batch: 0 * outputs["logits"].sum() + 7},
        lambda trainer: last(trainer, "loss") == 7,
    ),
    "gradient_checkpointing": ({"gradient_checkpointing": True}, {}, lambda trainer: last(trainer, "loss") > 0),
    "auto_find_batch_size": ({"auto_find_batch_size": True}, {}, lambda trainer: trainer.state.train_batch_size == 4),
    "torch_empty_cache_steps": ({"torch_empty_cache_steps": 1}, {}, lambda trainer: last(trainer, "loss") > 0),
    "bf16_full_eval": ({"bf16_full_eval": True}, {}, lambda trainer: "eval_accuracy" in trainer.evaluate()),
    "dataloader_drop_last": (
        {"dataloader_drop_last": True, "max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 5},
        {},
        lambda trainer: trainer.state.max_steps == 2,
    ),
    "accelerator_config": (
        {"accelerator_config": {"split_batches": True, "even_batches": False}},
        {},
        lambda trainer: trainer.accelerator.split_batches,
    ),
    "dispatch_batches": (
        {"accelerator_config": {"dispatch_batches": True}},
        {},
        lambda trainer: last(trainer, "loss") > 0,
    ),
    "average_tokens_across_devices": (
        {"average_tokens_across_devices": False},
        {},
        lambda trainer: last(trainer, "loss") > 0,
    ),
    "max_grad_norm": ({"max_grad_norm": 0.0}, {}, lambda trainer: last(trainer, "grad_norm") > 0),
    "label_smoothing_factor": ({"label_smoothing_factor": 0.1}, {}, lambda trainer: last(trainer, "loss") > 0),
    "remove_unused_columns": ({"remove_unused_columns": True}, {}, lambda trainer: last(trainer, "loss") > 0),
    "lr_scheduler_type": (
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1},
        {},
        lambda trainer: last(trainer, "learning_rate") == 0.05,
    ),
    "debug": ({"debug": "underflow_overflow"}, {}, lambda trainer: last(trainer, "loss") > 0),
    "save_only_model": (
        {"save_only_model": True, "save_strategy": "steps", "save_steps": 1},
        {},
        lambda trainer: trainer.state.global_step == 2,
    ),
}


@pytest.mark.parametrize("name", WORKING)
def test_what_transformers_offers_works(name, tmp_path):
    """Whoever knows the Trainer already knows how to use this one."""
    arguments, parts, shows = WORKING[name]
    trainer = run(tmp_path, evaluated(**(parts() if callable(parts) else parts)), **arguments)
    assert shows(trainer)


def test_model_init(tmp_path):
    """It makes the model that is trained, at every call of train."""
    arguments = SharpPromptTrainingArguments(str(tmp_path), max_steps=1, report_to="none", use_cpu=True)
    trainer = SharpPromptTrainer(
        args=arguments, model_init=lambda: make_model(torch.float32), train_dataset=make_data(6, dtype=torch.float32)
    )
    first = trainer.model
    assert trainer.train().global_step == 1
    assert trainer.model is not first


@pytest.mark.parametrize("remove", [True, False])
def test_columns_that_nothing_uses(remove, tmp_path, images):
    """Removing columns must not remove the images, of which the collator makes what the model takes."""
    columns = {"image": images, "label": [0, 1, 2, 3], "path": ["a", "b", "c", "d"]}
    data = Dataset.from_dict(columns, Features({"image": Image(), "label": Value("int64"), "path": Value("string")}))
    parts = {"processing_class": load_processor()}
    arguments = {"remove_unused_columns": remove, "max_steps": 1}
    trainer = make_trainer(tmp_path, make_model(torch.float32), data, parts, **arguments)
    trainer.train()
    assert last(trainer, "loss") > 0


# What this Trainer leaves to transformers as it is, or tests elsewhere.
INHERITED = {
    *("output_dir", "per_device_train_batch_size", "max_steps", "learning_rate", "lr_scheduler_kwargs"),
    *("warmup_steps", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("gradient_accumulation_steps", "bf16", "fp16", "fp16_full_eval", "tf32", "optim_target_modules"),
    *(
        "torch_compile",
        "torch_compile_backend",
        "torch_compile_mode",
        "liger_kernel_config",
        "fsdp_config",
        "seed",
        "data_seed",
    ),
    *("load_best_model_at_end", "ignore_data_skip", "dataloader_in_order", "label_names"),
    *("train_sampling_strategy", "length_column_name", "parallelism_config"),
}


def test_no_argument_is_forgotten():
    """A new argument of transformers has to be tried here before it is offered."""
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    tried = {*WORKING, *REFUSED, *INHERITED, *NOT_IDENTIFYING, *CHOOSING_THE_BEST}
    assert fields <= tried
