"""Two real processes train what one trains."""

import sys
from pathlib import Path

import pytest
import torch
from processes import run_in_two_processes
from small_runs import RULES, make_data, make_trainer, prompt_of, train


@pytest.fixture(scope="module")
def trained_by_two_processes(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """Each process's prompts by rule, all trained by the same two processes to save their start."""
    output_dir = tmp_path_factory.mktemp("two")
    run_in_two_processes(__file__, output_dir)
    return [torch.load(output_dir / f"prompts{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("rule", RULES)
def test_two_processes_give_the_same_prompts_as_one(rule, tmp_path, trained_by_two_processes):
    """A second GPU must change the time a run takes, not its result.

    The last step's shares are 3 and 1 images; of the second one Accelerate makes 3, which must not count twice.
    """
    alone = train(tmp_path, sharpness=rule, data=make_data(22), per_device_train_batch_size=6)
    first, second = trained_by_two_processes
    torch.testing.assert_close(first[rule], second[rule], rtol=0, atol=0)
    torch.testing.assert_close(first[rule], alone, rtol=1e-10, atol=1e-12)


# What differs from the runs of all rules.
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


@pytest.mark.parametrize("shares", OTHER_SHARES)
def test_two_processes_may_share_the_last_images_in_any_way(shares, tmp_path, trained_by_two_processes):
    """Otherwise the size of the data set decides whether a second GPU changes the result."""
    arguments = {"label_smoothing_factor": OTHER_SHARES[shares].get("label_smoothing_factor", 0.0)}
    data = make_data(OTHER_SHARES[shares].get("count", 22))
    alone = train(tmp_path, sharpness="saf", data=data, per_device_train_batch_size=6, **arguments)
    exact = "smoothing" not in shares  # the smoother sums in float32
    torch.testing.assert_close(
        trained_by_two_processes[0][shares], alone, rtol=1e-10 if exact else 1e-5, atol=1e-12 if exact else 1e-7
    )


def test_two_processes_resumed_within_a_later_epoch_end_on_the_same_bits(trained_by_two_processes):
    """They have to go on in that epoch's order of images and with its views of them, not with the first one's."""
    for prompts in trained_by_two_processes:
        assert torch.equal(prompts["resumed"], prompts["whole"])


def test_two_processes_see_other_views_in_each_epoch(trained_by_two_processes):
    """Accelerate does not tell a shuffled data set of the epoch there; images would be cropped alike in all epochs."""
    seen = torch.cat([each["views"] for each in trained_by_two_processes])
    assert len(seen.unique(dim=0)) > 12, "of twelve images"


def test_two_processes_and_objectives_of_the_frozen_model(tmp_path, trained_by_two_processes):
    """Terms of samples and of the model alone, and a constraint, are of the whole batch as well."""
    alone = train(tmp_path, objectives=KEEPING_CLOSE, data=make_data(22), per_device_train_batch_size=6)
    torch.testing.assert_close(trained_by_two_processes[0]["objectives"], alone, rtol=1e-10, atol=1e-12)


def test_two_processes_take_dassls_schedule_and_whole_batches(tmp_path, trained_by_two_processes):
    """Otherwise an epoch has other steps, or they have other learning rates, on two GPUs than on one."""
    alone = train(tmp_path, data=make_data(22), per_device_train_batch_size=6, **AS_DASSL)
    torch.testing.assert_close(trained_by_two_processes[0]["as dassl"], alone, rtol=1e-10, atol=1e-12)


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


def run_as_one_of_two_processes(output_dir: str) -> None:
    prompts = {rule: train_as_one_of_two_processes(output_dir, sharpness=rule) for rule in RULES}
    for shares, arguments in OTHER_SHARES.items():
        prompts[shares] = train_as_one_of_two_processes(output_dir, sharpness="saf", **arguments)
    prompts["objectives"] = train_as_one_of_two_processes(output_dir, objectives=KEEPING_CLOSE)
    prompts["as dassl"] = train_as_one_of_two_processes(output_dir, **AS_DASSL)
    arguments = {"sharpness": "fsam", "save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3}
    prompts["whole"] = train_as_one_of_two_processes(f"{output_dir}/whole", views=3, **arguments)
    data = make_data(22, views=3)
    resumed = make_trainer(f"{output_dir}/whole", data=data, per_device_train_batch_size=3, **arguments)
    resumed.train(resume_from_checkpoint=f"{output_dir}/whole/checkpoint-6")  # in the second epoch of four steps
    prompts["resumed"] = prompt_of(resumed.model)
    prompts["views"] = record_views(output_dir)
    torch.save(prompts, Path(output_dir, f"prompts{torch.distributed.get_rank()}.pt"))
    resumed.accelerator.end_training()  # else a process may abort on its way out


def record_views(output_dir: str) -> torch.Tensor:
    """The features that a process sees in two epochs, of one image a step, so that a batch is the same in both."""
    trainer = make_trainer(output_dir, data=make_data(12, views=9), per_device_train_batch_size=1, sharpness="none")
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, inputs: seen.append(inputs["image_features"]), with_kwargs=True
    )
    trainer.train()
    return torch.cat(seen)


def train_as_one_of_two_processes(output_dir: str, count: int = 22, views: int = 1, **arguments) -> torch.Tensor:
    trainer = make_trainer(
        output_dir, data=make_data(count, views=views), **{"per_device_train_batch_size": 3, **arguments}
    )
    assert trainer.accelerator.num_processes == 2
    assert trainer.accelerator.distributed_type.value == "MULTI_CPU"
    trainer.train()
    return prompt_of(trainer.model)


if __name__ == "__main__":
    run_as_one_of_two_processes(sys.argv[1])
