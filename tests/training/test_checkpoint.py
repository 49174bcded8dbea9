"""What a run leaves behind: it goes on from there to the same bits, and a failure loses nothing."""

import functools
import itertools
import math
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from sharpness.every_rule import DRAWS, REMEMBERS
from support.forks import run_fork
from support.rotation import rotate
from training.small_runs import make_data, make_model, make_trainer, prompt_of, train
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from hf_sharp_prompt import SharpPromptTrainer, sharpness
from hf_sharp_prompt.objectives import sharpness_aware_names
from hf_sharp_prompt.training.checkpoint import choose_checkpoint, find_damage


def test_a_checkpoint_of_another_objective_is_refused(tmp_path):
    """Else a run would silently go on as something else."""
    make_trainer(tmp_path, sharpness="mesa", save_strategy="epoch").train()
    for other, described in (("none", "none'"), ("saf", "none' and the objectives saf")):
        then = "is of a run with the sharpness rule 'none' and the objectives mesa"
        with pytest.raises(ValueError, match=f"{then}, but this one follows '{described}"):
            make_trainer(tmp_path, sharpness=other, num_train_epochs=3).train(resume_from_checkpoint=True)


def test_a_checkpoint_holds_the_adapter_and_not_the_base_model(tmp_path):
    """A hundred checkpoints of a prompt must not be a hundred copies of CLIP."""
    make_trainer(
        tmp_path, save_strategy="epoch", model=make_model(torch.float32), data=make_data(dtype=torch.float32)
    ).train()
    checkpoint = tmp_path / "checkpoint-8"
    files = {path.name for path in checkpoint.iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "sharpness.safetensors"} <= files
    assert "model.safetensors" not in files
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < 100_000
    assert not list(tmp_path.rglob(".*.unfinished"))


@pytest.mark.parametrize(
    ("rule", "accumulation"),
    rotate(["sam", "imbsam", *sorted(REMEMBERS | DRAWS | {*sharpness_aware_names()})], [2, 1]),
)
def test_a_resumed_run_ends_on_the_same_bits(rule, accumulation, tmp_path):
    """Preemption must not show in the result.

    All that have something to restore, and two that have not; whether micro-batches are accumulated takes turns.
    """
    arguments = {
        "sharpness": rule,
        "rho_schedule": "cosine",
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 3,
        "data": make_data(20),
    }
    uninterrupted = train(tmp_path / "whole", **arguments)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 6  # within an epoch, and between looksam's SAM steps

    arguments |= {"save_strategy": "steps", "save_steps": 3}
    stopped = make_trainer(tmp_path / "parts", trainer_arguments={"callbacks": [Stop()]}, **arguments)
    stopped.train()
    assert stopped.state.global_step == 6
    resumed = make_trainer(tmp_path / "parts", **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(prompt_of(resumed.model), uninterrupted)


# With a vector to restore, with a noise generator, with logits per sample.
KILLED = [("fsam", 2), ("gnm", 1), ("saf", 2)]


@pytest.mark.parametrize(("rule", "accumulation"), KILLED)
def test_a_run_that_was_killed_ends_on_the_same_bits(rule, accumulation, tmp_path):
    """Preempted jobs get SIGKILL, in the middle of whatever they do."""
    run = functools.partial(run_with_checkpoints, rule=rule, accumulation=accumulation)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    forward_passes = random.Random(rule).randint(7, 14)
    assert run_fork(run, killed, forward_passes) == -signal.SIGKILL
    assert get_last_checkpoint(killed)
    assert run_fork(run, killed) == 0
    run(whole)
    resumed, uninterrupted = (torch.load(folder / "prompt.pt") for folder in (killed, whole))
    assert torch.equal(resumed, uninterrupted)
    assert not torch.equal(resumed, prompt_of(make_model()))


def run_with_checkpoints(folder: Path, forward_passes: float = math.inf, *, rule: str, accumulation: int) -> None:
    """A run that continues from what is there, saves every second step, and dies after so many forward passes."""
    trainer = make_trainer(
        folder,
        sharpness=rule,
        data=make_data(9),
        per_device_train_batch_size=3,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=5,
        save_strategy="steps",
        save_steps=2,
        rho_schedule="cosine",
    )
    compute_loss, calls = trainer.compute_loss, itertools.count()

    def die_in_time(*args, **kwargs):
        if next(calls) == forward_passes:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute_loss(*args, **kwargs)

    trainer.compute_loss = die_in_time
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    torch.save(prompt_of(trainer.model), folder / "prompt.pt")


def test_rule_state_is_in_the_checkpoint_and_restored(tmp_path, stateful_rule):
    """Without it the momentum of stateful rules would start again at every resume."""
    trainer = make_trainer(tmp_path, sharpness=stateful_rule, save_strategy="epoch")
    trainer.train()
    saved = safetensors.torch.load_file(tmp_path / "checkpoint-8" / "sharpness.safetensors")
    assert torch.equal(saved["momentum"], trainer.sharpness.rule.state["momentum"])
    resumed = make_trainer(tmp_path, sharpness=stateful_rule, save_strategy="epoch")
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(resumed.sharpness.rule.state["momentum"], saved["momentum"])


def test_a_checkpoint_of_another_rule_is_refused(tmp_path):
    """Else a run would silently go on as something else."""
    make_trainer(tmp_path, sharpness="sam", save_strategy="epoch").train()
    with pytest.raises(ValueError, match="is of a run with the sharpness rule 'sam', but this one follows 'gcsam'"):
        make_trainer(tmp_path, sharpness="gcsam", num_train_epochs=3).train(resume_from_checkpoint=True)


@pytest.fixture
def stateful_rule():
    class Momentum(sharpness.SharpnessRule, name="test_momentum"):
        def __init__(self):
            self.state, self.reported = {}, {}

        def direction(self, gradient):
            g = gradient()
            self.state = {"momentum": 0.9 * self.state.get("momentum", 0) + g}
            return gradient(offset=0.05 * self.state["momentum"])

    Momentum.__dataclass_fields__ = {}
    yield "test_momentum"
    del sharpness.SharpnessRule.registry["test_momentum"]


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    """The checkpoint before the failed one must survive, and a resume must find it."""
    real_save, calls = torch.save, []

    def save_until_the_disk_is_full(content, path, *args, **kwargs):
        calls.append(str(path))
        if "checkpoint-6" in str(path) and "scheduler" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        return real_save(content, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save_until_the_disk_is_full)
    arguments = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 1, "num_train_epochs": 3}
    with pytest.raises(OSError, match="No space left"):
        make_trainer(tmp_path, **arguments).train()
    monkeypatch.undo()
    assert any("checkpoint-6" in call for call in calls)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    resumed = make_trainer(tmp_path, **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(prompt_of(resumed.model), train(tmp_path / "whole", num_train_epochs=3))


def test_a_failed_push_keeps_the_checkpoint_that_was_to_be_pushed(tmp_path, monkeypatch):
    """The Hub being down must not cost the training since the last checkpoint."""

    def no_network(self, checkpoint_folder):
        raise ConnectionError("no route to the Hub")

    monkeypatch.setattr(SharpPromptTrainer, "_push_from_checkpoint", no_network)
    monkeypatch.setattr(SharpPromptTrainer, "init_hf_repo", lambda self: None)
    with pytest.raises(ConnectionError):
        make_trainer(tmp_path, save_strategy="steps", save_steps=3, push_to_hub=True).train()
    monkeypatch.undo()
    resumed = make_trainer(tmp_path, save_strategy="steps", save_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.state.global_step == 8


def test_a_half_written_checkpoint_is_passed_over(tmp_path, caplog):
    """A kill in the middle of a save leaves a folder that looks like the newest checkpoint."""
    arguments = {"save_strategy": "steps", "save_steps": 3}
    make_trainer(tmp_path, **arguments).train()
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "optimizer.pt").write_bytes(b"half")
    resumed = make_trainer(tmp_path, num_train_epochs=3, **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-7 is incomplete" in caplog.text
    assert resumed.state.global_step == 12


def test_a_failed_save_of_the_model_leaves_the_one_before(tmp_path, monkeypatch):
    """save_model overwrites; a full disk must not cost the prompts that were there."""
    trainer = make_trainer(tmp_path)
    trainer.train()
    trainer.save_model()
    before = (tmp_path / "adapter_model.safetensors").read_bytes()

    def full(content, path, **kwargs):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peft.peft_model.safe_save_file", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save_model()
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*.unfinished"))


def damage(checkpoint: Path, name: str, how: str) -> None:
    path = checkpoint / name
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        tensors = safetensors.torch.load_file(path)
        for tensor in tensors.values():
            tensor.fill_(torch.nan)
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


DAMAGES = [
    ("optimizer.pt", "missing", "optimizer.pt is missing"),
    ("scheduler.pt", "missing", "scheduler.pt is missing"),
    ("rng_state.pth", "missing", "rng_state.pth is missing"),
    ("sharpness.safetensors", "missing", "sharpness.safetensors is missing"),
    ("objectives.safetensors", "missing", "objectives.safetensors is missing"),
    ("adapter_model.safetensors", "missing", "adapter_model.safetensors is missing"),
    ("optimizer.pt", "empty", "optimizer.pt is incomplete, with 0 bytes of"),
    ("adapter_model.safetensors", "short", "adapter_model.safetensors is incomplete"),
    ("adapter_model.safetensors", "nan", "adapter_model.safetensors holds values that are not finite"),
    ("trainer_state.json", "empty", "trainer_state.json is missing or incomplete"),
]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory) -> Path:
    """The directory of a run that saved twice."""
    output_dir = tmp_path_factory.mktemp("two")
    make_trainer(output_dir, max_steps=4, **SAVING).train()
    return output_dir


SAVING = {"sharpness": "saf", "objectives": ["kgcoop"], "save_strategy": "steps", "save_steps": 2}


@pytest.mark.parametrize(("name", "how", "message"), DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_or_refused_by_name(name, how, message, tmp_path, two_checkpoints, caplog):
    """A run that goes on without its optimizer, or from NaN, ends on other bits and says nothing."""
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoint-4", name, how)
    with pytest.raises(ValueError, match=f"checkpoint-4 cannot be resumed: .*{message}"):
        make_trainer(tmp_path, max_steps=5, **SAVING).train(resume_from_checkpoint=tmp_path / "checkpoint-4")
    assert find_damage(tmp_path / "checkpoint-2") is None
    assert choose_checkpoint(True, [tmp_path]) == tmp_path / "checkpoint-2"


def test_no_complete_checkpoint_is_an_error_that_names_what_is_missing(tmp_path, two_checkpoints):
    """Starting again without a word would cost the run that is there."""
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    for checkpoint in ("checkpoint-2", "checkpoint-4"):
        damage(tmp_path / checkpoint, "optimizer.pt", "missing")
    with pytest.raises(ValueError, match=r"in checkpoint-4 optimizer.pt is missing; in checkpoint-2 optimizer.pt"):
        make_trainer(tmp_path, max_steps=5, **SAVING).train(resume_from_checkpoint=True)
    assert (tmp_path / "checkpoint-4" / "scheduler.pt").is_file()


def test_a_run_killed_while_its_first_checkpoint_is_written_starts_again_at_once(tmp_path, two_checkpoints, caplog):
    """The same command must not fail once and work the second time."""
    shutil.copytree(two_checkpoints / "checkpoint-2", tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "trainer_state.json").unlink()
    trainer = make_trainer(tmp_path, max_steps=4, **SAVING)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 4
    assert "checkpoint-2 is incomplete, left by an interrupted save; it is removed" in caplog.text
    assert "holds no complete checkpoint; the run starts from its beginning" in caplog.text


def test_resuming_without_any_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"There is no checkpoint in .*; start without resume_from_checkpoint"):
        make_trainer(tmp_path).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_more_processes_is_refused(two_checkpoints):
    """Their shares of the batches and their random numbers are others."""
    with pytest.raises(ValueError, match="are not those of 2 processes"):
        choose_checkpoint(two_checkpoints / "checkpoint-4", [two_checkpoints], processes=2)
