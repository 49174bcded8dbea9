"""A release of transformers, accelerate or torch that changes what `TrainerHooks` relies on is noticed here."""

import inspect
import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_sharp_prompt import SharpPromptTrainer
from hf_sharp_prompt.compat.loaders import end_workers, samples_in_last_round, seed_workers
from hf_sharp_prompt.compat.trainer import TrainerHooks


OVERRIDDEN = {
    "_get_train_sampler": ["self", "train_dataset"],
    "_set_signature_columns_if_needed": ["self"],
    "_get_output_dir": ["self", "trial"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_load_best_model": ["self"],
    "_push_from_checkpoint": ["self", "checkpoint_folder"],
    "_move_model_to_device": ["self", "model", "device"],
    "_wrap_model": ["self", "model", "training", "dataloader"],
}
CALLED = {
    "_remove_unused_columns": ["self", "dataset", "description"],
    "_get_collator_with_removed_columns": ["self", "data_collator", "description"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_finish_current_push": ["self"],
    "_prepare_inputs": ["self", "inputs"],
}


@pytest.mark.parametrize(("name", "parameters"), (OVERRIDDEN | CALLED).items())
def test_private_methods_take_what_they_took(name, parameters):
    method = getattr(Trainer, name, None)
    now = None if method is None else list(inspect.signature(method).parameters)
    assert now == parameters, (
        f"transformers' Trainer.{name} took {parameters} and takes {now} now: read it again, and change TrainerHooks "
        "in hf_sharp_prompt/compat/."
    )


def test_private_methods_are_overridden_in_one_place():
    """Otherwise a new release of transformers has to be compared with the whole package."""
    private = {name for name in vars(Trainer) if name.startswith("_") and not name.startswith("__")}
    overriding = {
        (each.__name__, name)
        for each in SharpPromptTrainer.__mro__[: SharpPromptTrainer.__mro__.index(Trainer)]
        for name in private & vars(each).keys()
    }
    assert overriding == {("TrainerHooks", name) for name in OVERRIDDEN}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return {"loss": (x * self.weight).sum()}


class Recorder(TrainerHooks):
    """Writes down which hooks are called, and with what on disk."""

    collated_columns = ("image",)

    def __init__(self, *args, **kwargs):
        self.calls = []
        super().__init__(*args, **kwargs)

    def make_train_sampler(self, dataset):
        self.calls.append("make_train_sampler")
        return SequentialSampler(dataset)

    def find_checkpoint_directory(self, trial=None):
        return str(Path(self.args.output_dir, "below"))

    @contextmanager
    def saving_checkpoint(self, checkpoint):
        self.calls.append(f"saving {checkpoint.name}: {files(checkpoint)}")
        yield
        self.calls.append(f"saved {checkpoint.name}")
        assert {"optimizer.pt", "rng_state.pth", "trainer_state.json", "mine.json"} <= set(files(checkpoint))

    def save_run_state(self, checkpoint):
        self.calls.append("save_run_state")
        assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(files(checkpoint)), (
            "transformers' Trainer saves in another order: the random states are not the last files before "
            "trainer_state.json, so a manifest that is written after them is not whole."
        )
        assert "trainer_state.json" not in files(checkpoint), (
            "transformers' Trainer writes trainer_state.json before the random states, so an interrupted checkpoint "
            "looks whole."
        )
        (checkpoint / "mine.json").write_text("{}")

    def load_run_state(self, checkpoint):
        assert self.optimizer is not None
        self.calls.append(f"load_run_state {checkpoint.name}")

    def load_best_model(self, checkpoint):
        self.calls.append(f"load_best_model {Path(checkpoint).name}")

    def push_checkpoint(self, checkpoint):
        assert "mine.json" in files(checkpoint)
        self.calls.append(f"push {checkpoint.name}")

    def init_hf_repo(self, token=None, private=None):
        self.calls.append("init_hf_repo")


class WritesDown(TrainerCallback):
    """Where the callbacks' events are in the order of the hooks."""

    def __init__(self):
        self.trainer = None

    def on_train_begin(self, *args, **kwargs):
        self.trainer.calls.append("on_train_begin")

    def on_save(self, *args, **kwargs):
        self.trainer.calls.append("on_save")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def make_recorder(output_dir: Path, **arguments) -> Recorder:
    data = [{"x": torch.tensor([float(value)])} for value in range(4)]
    args = TrainingArguments(
        str(output_dir),
        per_device_train_batch_size=2,
        max_steps=2,
        save_steps=1,
        report_to="none",
        use_cpu=True,
        **arguments,
    )
    callback = WritesDown()
    callback.trainer = Recorder(Model(), args, train_dataset=data, eval_dataset=data, callbacks=[callback])
    return callback.trainer


def test_hooks_are_called_where_the_trainer_calls_its_private_methods(tmp_path):
    """Each of them stands for a moment that no callback of the Trainer marks."""
    best = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "runtime",
    }
    trainer = make_recorder(tmp_path, push_to_hub=True, **best)
    trainer.train()
    step = ["save_run_state", "push {0}", "saved {0}", "on_save"]
    assert trainer.calls == [
        "init_hf_repo",
        "make_train_sampler",
        "on_train_begin",
        *(each.format(f"checkpoint-{number}") for number in (1, 2) for each in ["saving {0}: []", *step]),
        f"load_best_model {Path(trainer.state.best_model_checkpoint).name}",
    ]
    assert files(tmp_path / "below") == ["checkpoint-1", "checkpoint-2"]


def test_the_state_is_loaded_before_the_run_begins(tmp_path):
    make_recorder(tmp_path / "first").train()
    resumed = make_recorder(tmp_path / "second")
    resumed.train(resume_from_checkpoint=str(tmp_path / "first" / "below" / "checkpoint-1"))
    assert resumed.calls[:3] == ["make_train_sampler", "load_run_state checkpoint-1", "on_train_begin"]
    state = json.loads((tmp_path / "second" / "below" / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2


def test_columns_that_become_inputs_are_not_dropped_as_unused(tmp_path):
    trainer = make_recorder(tmp_path)
    _, collate = trainer.drop_unused_columns([], lambda items: items)
    assert [*collate([{"image": 1, "x": 2, "name": 3}])[0]] == ["image", "x"], (
        "transformers' Trainer finds unused columns in another way: its _signature_columns do not decide any more."
    )


def test_a_scheduler_is_made_again_for_the_next_run(tmp_path):
    """Otherwise a second call of train goes on at the first one's last learning rate."""
    trainer = make_recorder(tmp_path)
    trainer.create_optimizer()
    mine = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer)
    trainer.use_scheduler(mine)
    trainer.train()
    assert trainer.lr_scheduler is not mine


def test_evaluation_loaders_with_persistent_workers_are_kept_under_the_name_that_is_forgotten(tmp_path):
    trainer = make_recorder(tmp_path, dataloader_persistent_workers=True, dataloader_num_workers=1)
    first = trainer.get_eval_dataloader()
    assert trainer.get_eval_dataloader() is first
    trainer.forget_evaluation_loaders()
    assert trainer.get_eval_dataloader() is not first


@pytest.mark.parametrize(("samples", "left"), [(9, 1), (10, 2), (11, 3), (12, None)])
def test_accelerate_fills_up_the_last_round(samples, left):
    """Repeated samples would count twice in the loss of an epoch's last step."""
    sampler = BatchSampler(SequentialSampler(range(samples)), 2, drop_last=False)
    shards = [BatchSamplerShard(sampler, 2, process) for process in range(2)]
    assert samples_in_last_round(DataLoader(range(samples), batch_sampler=shards[0])) == left, (
        "accelerate's BatchSamplerShard has changed: read it again, and change samples_in_last_round in "
        "hf_sharp_prompt/compat/."
    )
    last = [index for shard in shards for index in list(shard)[-1]]
    assert len(set(range(samples)) & set(last)) == 4, "and each process has a whole batch"
    assert last[: left or 4] == list(range(samples - (left or 4), samples))


def test_workers_of_accelerates_loaders_are_seeded_and_ended():
    loader = prepare_data_loader(DataLoader(range(4), num_workers=1, persistent_workers=True, batch_size=2))
    seed_workers(loader, 7)
    assert loader.generator.initial_seed() == 7
    assert len(list(loader)) == 2
    workers = loader.base_dataloader._iterator._workers
    assert all(worker.is_alive() for worker in workers), "torch keeps persistent workers elsewhere: see end_workers."
    end_workers(loader)
    assert not any(worker.is_alive() for worker in workers)
