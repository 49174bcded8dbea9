"""Runs of SharpPromptTrainer as one of two processes."""

from collections.abc import Iterator
from pathlib import Path

import torch
from training import detection_runs, long_tail_runs, segmentation_runs
from training.small_runs import KINDS, make_data, make_samples, make_trainer, prompt_of


# What differs from the runs of the rules.
OTHER_SHARES = {
    "shares of different sizes": {"accelerator_config": {"even_batches": False}},
    "a share of nothing but repeated images": {"count": 20},
    "fewer images than processes take": {"count": 2},
    "batches that are split": {
        "count": 20,
        "per_device_train_batch_size": 6,
        "accelerator_config": {"split_batches": True},
    },
    "accumulation": {"count": 20, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3},
    "label smoothing": {"count": 20, "label_smoothing_factor": 0.1},
}


DETECTION = {"per_device_train_batch_size": 3, "per_device_eval_batch_size": 2}
SEGMENTATION = {"per_device_train_batch_size": 3, "per_device_eval_batch_size": 2}
AS_DASSL = {
    "epoch_schedule": "cosine",
    "first_epoch_learning_rate": 1e-3,
    "drop_last_train_batch": True,
    "weight_decay": 0.01,
    "num_train_epochs": 3,
}
KEEPING_CLOSE = {
    "kgcoop": {},
    "nfl": {"novel_class_names": ["grey ring", "pink cross"]},
    "promptsrc": {"average_mean": 2},
    "prograd": {},
}
LONG_TAILS = {
    "random": {"loss": "ldam", "reweighting_beta": 0.9, "reweighting_epochs": [1], "sharpness": "imbsam"},
    "class_balanced": {"train_sampling_strategy": "class_balanced"},
    "square_root": {"train_sampling_strategy": "square_root", "loss": "logit_adjustment", "sharpness": "focalsam"},
}


def train_all(output_dir: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """What was learned in each run, by the run's name."""
    yield "one-hot labels", train_without_a_flag_for_cpus(output_dir)
    for rule in KINDS:
        yield rule, train_as_one_of_two_processes(output_dir, sharpness=rule)
    for shares, arguments in OTHER_SHARES.items():
        yield shares, train_as_one_of_two_processes(output_dir, sharpness="saf", **arguments)
    yield "objectives", train_as_one_of_two_processes(output_dir, objectives=KEEPING_CLOSE)
    yield "as dassl", train_as_one_of_two_processes(output_dir, **AS_DASSL)
    arguments = {"sharpness": "fsam", "save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3, "views": 3}
    yield "whole", train_as_one_of_two_processes(output_dir / "whole", **arguments)
    checkpoint = output_dir / "whole" / "checkpoint-6"  # in the second epoch of four steps
    yield "resumed", train_as_one_of_two_processes(output_dir / "whole", resume=checkpoint, **arguments)
    yield "views", record_views(output_dir)
    yield "detection", torch.cat([each.flatten() for each in detection_runs.train(output_dir, **DETECTION)])
    yield "segmentation", segmentation_runs.train_and_measure(output_dir, **SEGMENTATION)
    for name, arguments in LONG_TAILS.items():
        yield f"long tail, {name}", long_tail_runs.train(output_dir, per_device_train_batch_size=5, **arguments)


def train_without_a_flag_for_cpus(output_dir: Path) -> torch.Tensor:
    """On one-hot labels; where there is no accelerator, two processes use CPUs without being told to."""
    use_cpu = torch.accelerator.is_available()
    data = make_samples(soft=True)
    trainer = make_trainer(output_dir, data=data, per_device_train_batch_size=3, use_cpu=use_cpu)
    assert trainer.args.world_size == 2
    trainer.train()
    return prompt_of(trainer.model)


def record_views(output_dir: Path) -> torch.Tensor:
    """The features that a process sees in two epochs, of one image a step, so that a batch is the same in both."""
    trainer = make_trainer(output_dir, data=make_data(12, views=9), per_device_train_batch_size=1, sharpness="none")
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, inputs: seen.append(inputs["image_features"]), with_kwargs=True
    )
    trainer.train()
    return torch.cat(seen)


def train_as_one_of_two_processes(
    output_dir: Path, count: int = 22, views: int = 1, resume: Path | None = None, **arguments
) -> torch.Tensor:
    trainer = make_trainer(
        output_dir, data=make_data(count, views=views), **{"per_device_train_batch_size": 3, **arguments}
    )
    assert trainer.accelerator.num_processes == 2
    assert trainer.accelerator.distributed_type.value == "MULTI_CPU"
    trainer.train(resume_from_checkpoint=resume)
    return prompt_of(trainer.model)
