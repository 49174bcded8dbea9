"""What a push sends, and what happens when the Hub refuses or fails."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub.client import without_waiting
from hub.local_hub import LocalHub
from peft import AutoPeftModel, PeftModel, get_peft_model
from transformers import AutoProcessor, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.training.push import PushError


NAMES = ["red heart", "blue star"]
CREATION, COMMIT = "POST /api/repos/create", "POST /api/models/.*/commit/"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[LocalHub]:
    with without_waiting(tmp_path / "cache", monkeypatch) as hub:
        yield hub


@pytest.fixture
def clip_path(tmp_path) -> Path:
    """A checkpoint under the home of a user with a telling name."""
    path = tmp_path / "home" / "ada_lovelace" / "clip"
    CLIPModel.from_pretrained(CLIP_PATH).save_pretrained(path)
    AutoProcessor.from_pretrained(CLIP_PATH).save_pretrained(path)
    return path


def make_trainer(clip_path: Path, hub: LocalHub, **arguments) -> SharpPromptTrainer:
    processor = AutoProcessor.from_pretrained(clip_path)
    model = get_peft_model(CLIPModel.from_pretrained(clip_path), CLIPPromptConfig(num_text_tokens=2))
    model.set_classes(NAMES, processor)
    data = ImageFeatures(torch.randn(8, 1, 128), torch.arange(8) % 2, NAMES)
    defaults = {
        "output_dir": str(clip_path.parent / "pets"),
        "push_to_hub": True,
        "hub_token": hub.token,
        "hub_always_push": True,
        "report_to": "none",
        "max_steps": 2,
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "dataset_name": str(clip_path.parent / "photos"),
        "per_device_train_batch_size": 4,
        "disable_tqdm": True,
        "use_cpu": True,
        "metric_for_best_model": "loss",
        "load_best_model_at_end": True,
    }
    args = SharpPromptTrainingArguments(**defaults | arguments)
    return SharpPromptTrainer(model, args, train_dataset=data, eval_dataset=data, processing_class=processor)


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_nothing_that_is_pushed_holds_a_token_a_name_or_a_path(strategy, hub, clip_path):
    trainer = make_trainer(clip_path, hub, hub_strategy=strategy)
    logs = Path(trainer.args.output_dir, "runs", f"Nov28_{socket.gethostname()}")
    logs.mkdir(parents=True)
    (logs / f"events.out.tfevents.1.{socket.gethostname()}").write_text(str(clip_path))
    Path(trainer.args.output_dir, "notes.txt").write_text(hub.token)
    trainer.train()
    trainer.push_to_hub()
    secrets = (hub.token, "ada_lovelace", str(clip_path.parent), socket.gethostname(), os.path.expanduser("~/"))
    pushed = [commit.files for commit in hub.repositories["me/pets"].commits.values()]
    for name, content in ((name, content) for files in pushed for name, content in files.items()):
        for secret in secrets:
            assert secret not in name
            assert secret.encode() not in content, (name, secret)
    files = hub.files("me/pets")
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(files)
    assert {"processor/tokenizer.json", "processor/processor_config.json"} <= set(files)
    assert not any("training_args" in name or name.startswith("runs") for name in files)
    of_checkpoints = {name.partition("/")[0] for name in files if name.endswith("optimizer.pt")}
    expected = {"checkpoint": {"last-checkpoint"}, "all_checkpoints": {"checkpoint-1", "checkpoint-2"}}
    assert of_checkpoints == expected.get(strategy, set())


def test_what_is_pushed_is_what_was_trained_and_what_is_here_stays(hub, clip_path, tmp_path):
    trainer = make_trainer(clip_path, hub, hub_strategy="checkpoint")
    trainer.train()
    trainer.push_to_hub()
    for name, content in hub.files("me/pets").items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    trained = trainer.model.eval()
    x = torch.randn(2, 1, 128)[:, 0]
    for folder in ("", "last-checkpoint"):
        loaded = PeftModel.from_pretrained(CLIPModel.from_pretrained(clip_path), tmp_path / "copy" / folder).eval()
        if not folder:  # the checkpoint is the last one, the model the best
            assert torch.equal(loaded(image_features=x).logits, trained(image_features=x).logits)
    processor = AutoProcessor.from_pretrained(tmp_path / "copy" / "processor")
    assert processor.tokenizer("a cat") == trainer.processing_class.tokenizer("a cat")
    here = json.loads(Path(trainer.args.output_dir, "adapter_config.json").read_text())
    there = json.loads(hub.files("me/pets")["adapter_config.json"])
    assert (here["base_model_name_or_path"], there["base_model_name_or_path"]) == (str(clip_path), "clip")
    assert here | {"base_model_name_or_path": ""} == there | {"base_model_name_or_path": ""}
    resumed = make_trainer(clip_path, hub, hub_strategy="end", max_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 3
    assert Path(trainer.args.output_dir, "checkpoint-2", "training_args.bin").is_file()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_fails_for_a_while_is_asked_again(status, hub, clip_path):
    hub.fail(CREATION, status, times=2)
    hub.fail(COMMIT, status, times=2)
    make_trainer(clip_path, hub).push_to_hub()
    assert "adapter_model.safetensors" in hub.files("me/pets")
    assert hub.failures == []


def test_a_run_goes_on_without_a_hub_and_its_push_at_the_end_brings_all(hub, clip_path, caplog):
    hub.fail(CREATION, 403)
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(clip_path, hub, hub_strategy="every_save")
    assert "repository pets cannot be created: the Hub answered 403 (This failure was asked for.)" in caplog.text
    hub.fail(COMMIT, 403, times=2)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "'Training in progress, step 1' was not pushed to me/pets: the Hub answered 403" in caplog.text
    assert trainer.state.global_step == 2
    trainer.push_to_hub()
    assert "adapter_model.safetensors" in hub.files("me/pets")


@pytest.mark.parametrize(("request_", "status"), [(CREATION, 403), (COMMIT, 403), (COMMIT, 500)])
def test_a_push_that_a_user_asks_for_says_what_was_not_pushed(request_, status, hub, clip_path):
    trainer = make_trainer(clip_path, hub, push_to_hub=False)
    hub.fail(request_, status, times=99)
    with pytest.raises(
        PushError, match=rf"the Hub answered {status} \(This failure.*\) to POST .*stays in .*pets; call"
    ):
        trainer.push_to_hub()
    asked = 99 - len(hub.failures)
    assert asked > 1 if status == 500 else asked == 1
    assert Path(trainer.args.output_dir, "adapter_model.safetensors").is_file()
    hub.failures.clear()
    trainer.push_to_hub()
    assert "adapter_model.safetensors" in hub.files("me/pets")


def test_auto_peft_model_loads_what_the_trainer_saves_from_disk_and_hub(hub, clip_path):
    trainer = make_trainer(clip_path, hub, push_to_hub=False)
    trainer.train()
    trainer.save_model()
    adapter = Path(trainer.args.output_dir)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "me/clip"}))
    for name, folder in (("me/clip", clip_path), ("me/pets", adapter)):
        huggingface_hub.create_repo(name)
        huggingface_hub.upload_folder(repo_id=name, folder_path=folder)
    images = torch.ones(1, 3, 48, 48)
    logits = [AutoPeftModel.from_pretrained(each).eval()(pixel_values=images).logits for each in (adapter, "me/pets")]
    assert torch.equal(*logits)
    assert AutoProcessor.from_pretrained("me/pets", subfolder="processor").tokenizer("a cat").input_ids
    assert CLIPPromptConfig.from_pretrained("me/pets").num_text_tokens == 2


@pytest.mark.parametrize(
    ("name", "error", "status"),
    [("none", ValueError, 404), ("no-config", FileNotFoundError, 404), ("failing", ValueError, 500)],
)
def test_a_config_that_cannot_be_loaded_is_said_with_the_hubs_answer(name, error, status, hub):
    huggingface_hub.create_repo("me/no-config")
    hub.fail(".*/me/failing/", 500, times=99)
    with pytest.raises(error, match=rf"Can't find 'adapter_config.json' at 'me/{name}': the Hub answered {status}"):
        CLIPPromptConfig.from_pretrained(f"me/{name}")
