"""Prompts of a model whose frozen layers are sharded over two processes are those of one process alone."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from sharpness.every_rule import make_rule
from support.demo_images import make_folder
from support.forks import run_two_forks
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy
from training.small_runs import load_clip, make_images, make_model, make_trainer
from transformers import CLIPModel, ViTConfig, ViTForImageClassification

from hf_sharp_prompt import ImageEncoder, SharpPromptTrainer, SharpPromptTrainingArguments, ViTPromptConfig, sharpness
from hf_sharp_prompt.data.features.encoding import Encoding, encode_images
from hf_sharp_prompt.demo import CLIP_PATH
from hf_sharp_prompt.experiments import all_classes
from hf_sharp_prompt.sharpness import SharpnessAware
from hf_sharp_prompt.tuners import shard_frozen_layers
from hf_sharp_prompt.tuners.sharding import is_sharded, place_model


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
RUNS = {
    "CoOp + SAM": ({"text_depth": 2}, {"sharpness": "sam"}),
    "GCSCoOp": ({}, {"sharpness": "gcsam", "objectives": {"kgcoop": {}, "prograd": {}}}),
    "chunks": ({"class_chunk_size": 2}, {"sharpness": "sam"}),
    "class names in front": ({"class_token_position": "front"}, {"sharpness": "gsam"}),
    "IVLP": ({"num_vision_tokens": 2}, {"sharpness": "sam", "activation_checkpointing": True}),
}
STEPS = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.05}


def make_vit() -> PeftModel:
    torch.manual_seed(0)
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vit = ViTForImageClassification(ViTConfig(**layers, image_size=48, patch_size=16, num_labels=5))
    return get_peft_model(vit.double(), ViTPromptConfig(num_tokens=3, depth=2, head="linear", num_labels=5))


def images() -> list[dict[str, torch.Tensor]]:
    return [{**each, "pixel_values": each["pixel_values"].double()} for each in make_images(16)]


def train(output_dir: Path, name: str, processes: int) -> SharpPromptTrainer:
    prompt, arguments = RUNS.get(name, ({}, {"sharpness": "sam"}))
    model = make_vit() if name == "VPT" else make_model(**prompt)
    arguments = {**STEPS, "per_device_train_batch_size": 4 // processes, **arguments}
    trainer = make_trainer(output_dir, model=model, data=images(), **arguments)
    trainer.train()
    return trainer


def learned(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad}


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory) -> Path:
    """Where two processes have written what they made."""
    output_dir = tmp_path_factory.mktemp("sharded")
    make_folder(output_dir / "shapes", classes=3, train=2, test=1)
    run_two_forks(make_all, output_dir, output_dir=output_dir)
    return output_dir


@pytest.fixture(scope="module")
def of_two_processes(output_dir) -> list[dict]:
    """What each process made, by name."""
    return [torch.load(output_dir / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", [*RUNS, "VPT"])
def test_a_sharded_tower_gives_the_prompts_of_an_unsharded_one(name, tmp_path, of_two_processes):
    """Otherwise a tower that is too large for one device is prompted in another way than a small one."""
    alone = learned(train(tmp_path, name, processes=1).model)
    for process in of_two_processes:
        assert process[name].keys() == alone.keys()
        for parameter, values in alone.items():
            torch.testing.assert_close(process[name][parameter], values, rtol=1e-9, atol=1e-11)


def test_each_process_holds_a_part_of_the_frozen_layers_and_nothing_else_is_divided(of_two_processes):
    """Otherwise nothing is gained, or a rule meets parts of what it perturbs."""
    for process in of_two_processes:
        held, whole, divided = process["sizes"]
        assert held < 0.6 * whole
        assert divided
        assert all(".layers." in name for name in divided)


def test_a_sharded_run_goes_on_where_it_was_interrupted(of_two_processes):
    for process in of_two_processes:
        for parameter, values in process["CoOp + SAM"].items():
            assert torch.equal(process["resumed"][parameter], values)


def test_a_sharded_run_saves_prompts_alone_that_a_plain_model_loads(output_dir, of_two_processes):
    """The file must not tell how the tower was held while it was learned."""
    saved = load_file(output_dir / "CoOp + SAM" / "adapter_model.safetensors")
    assert len(saved) == 2
    assert all("clip_prompt" in name for name in saved)
    assert not list((output_dir / "CoOp + SAM").rglob("*fsdp*"))
    model = PeftModel.from_pretrained(load_clip(torch.float64), output_dir / "CoOp + SAM")
    pixels = torch.stack([each["pixel_values"] for each in images()])
    with torch.no_grad():
        loss = float(model(pixel_values=pixels, labels=torch.tensor([each["labels"] for each in images()])).loss)
    model.unload()
    assert loss == pytest.approx(of_two_processes[0]["eval_loss"], abs=1e-6)


def test_a_sharded_tower_encodes_images_as_a_whole_one(of_two_processes):
    """The number of batches is odd, so that one process has none left when the other gathers layers."""
    encoder = ImageEncoder(make_model())
    features = encoder(torch.stack([each["pixel_values"] for each in images()[:5]]))
    for process in of_two_processes:
        assert process["fingerprint"] == encoder.fingerprint
        torch.testing.assert_close(process["features"][:, 0], features, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sharpness.names())
def test_every_rule_follows_the_same_direction_in_a_loop_of_ones_own(name, of_two_processes):
    for process in of_two_processes:
        sharded, plain = process[f"direction of {name}"]
        torch.testing.assert_close(sharded, plain, rtol=1e-9, atol=1e-12)


def test_weights_that_one_process_has_loaded_reach_the_other(of_two_processes):
    """`--fsdp_cpu_ram_efficient_loading` leaves the others' weights empty, prompts included."""
    first, second = (process["loaded by one"] for process in of_two_processes)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, logits(make_model()), rtol=0, atol=1e-12)


def test_the_train_command_shards_a_tower(output_dir):
    """It encodes images, trains, measures, and measures the saved adapter once more."""
    printed = "".join(file.read_text() for file in output_dir.glob("printed*"))
    assert printed.count("3 classes, 6 training images") == 1
    adapter = output_dir / "runs" / "shapes" / "coop_sam" / "seed1"
    assert json.loads((adapter / "_settings.json").read_text())["world_size"] == 2
    assert PeftModel.from_pretrained(CLIPModel.from_pretrained(CLIP_PATH), adapter).active_peft_config.class_names


def test_torch_still_refuses_to_shard_a_clip_as_a_whole(of_two_processes):
    """Accelerate and transformers shard models so; where it works, read both again and perhaps leave it to them."""
    assert "Change logit_scale to a 1D tensor" in of_two_processes[0]["refusal"]


def test_what_cannot_be_sharded_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is one alone; start several with `accelerate launch`"):
        shard_frozen_layers(make_model(), torch.device("cpu"))
    for setting, message in (
        ({"FSDP_VERSION": "1"}, "launch with --fsdp_version 2"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "set gradient_checkpointing=True"),
    ):
        with patch.dict(os.environ, FSDP | setting), pytest.raises(ValueError, match=message):
            place_model(make_model(), torch.device("cpu"))
    with patch.dict(os.environ, FSDP), pytest.raises(ValueError, match="load the model in that precision instead"):
        SharpPromptTrainingArguments(str(tmp_path), fp16_full_eval=True, use_cpu=True)


class Pixels:
    """Takes rows' pixel values as they are."""

    fingerprint = "pixels"

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.stack([torch.tensor(row["image"], dtype=torch.float64) for row in rows])}


def encoding_of(encoder: ImageEncoder) -> Encoding:
    rows = Dataset.from_dict({"image": [each["pixel_values"].tolist() for each in images()[:5]]})
    collator = Pixels()
    collator.image_column = "image"
    return Encoding(rows, encoder, collator, dtype=torch.float64, batch_size=2)


def logits(model: PeftModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(pixel_values=torch.stack([each["pixel_values"] for each in images()])).logits


def make_all(output_dir: Path) -> None:
    """What each of the two processes runs."""
    device, made = torch.device("cpu"), {}
    with patch.dict(os.environ, FSDP):
        for name in [*RUNS, "VPT"]:
            trainer = train(output_dir / name, name, processes=2)
            assert trainer.args.world_size == 2
            assert is_sharded(trainer.model)
            made[name] = learned(trainer.model)
            if name == "CoOp + SAM":
                made["eval_loss"] = trainer.evaluate(images())["eval_loss"]
                trainer.save_model()
                made["resumed"] = resume(output_dir / name)
        words = ["--dataset", output_dir / "shapes", "--output_dir", output_dir / "runs", "--recipes", "coop_sam"]
        assert all_classes.main([*map(str, words), "--num_train_epochs", "1", "--cache_features", "disk"]) == 0
    model = trainer.model
    held = sum(each.to_local().numel() for each in model.parameters() if isinstance(each, DTensor))
    whole = sum(each.numel() for each in model.parameters() if isinstance(each, DTensor))
    made["sizes"] = held, whole, [name for name, each in model.named_parameters() if isinstance(each, DTensor)]

    with pytest.raises(ValueError, match="scalar") as refusal:
        fully_shard(load_clip(torch.float64))
    made["refusal"] = str(refusal.value)

    model = make_model()
    accelerator = Accelerator(cpu=True)
    shard_frozen_layers(model, device)
    encoder = ImageEncoder(model)
    made["fingerprint"] = encoder.fingerprint
    made["features"] = torch.cat(list(encode_images(encoding_of(encoder))))
    for name in sharpness.names():
        made[f"direction of {name}"] = [direction(name, each, accelerator) for each in (model, make_model())]

    model = make_model()
    if accelerator.process_index:
        model.to("meta")
    shard_frozen_layers(model, device, reshard_after_forward=False)
    made["loaded by one"] = logits(model)
    torch.save(made, output_dir / f"{accelerator.process_index}.pt")
    accelerator.end_training()


def resume(output_dir: Path) -> dict[str, torch.Tensor]:
    prompt, arguments = RUNS["CoOp + SAM"]
    arguments = {**STEPS, **arguments, "per_device_train_batch_size": 2}
    trainer = make_trainer(output_dir, model=make_model(**prompt), data=images(), **arguments)
    trainer.train(resume_from_checkpoint=output_dir / "checkpoint-2")
    return learned(trainer.model)


def direction(name: str, model: PeftModel, accelerator: Accelerator) -> torch.Tensor:
    """The direction of a rule over both processes' images."""
    mine = images()[accelerator.process_index :: 2][:3]
    pixels, labels = (
        torch.stack([each["pixel_values"] for each in mine]),
        torch.stack([each["labels"] for each in mine]),
    )
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    sharp = SharpnessAware(make_rule(name), model, accelerator, optimizer=optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        sharp.backward(lambda: cross_entropy(model(pixel_values=pixels).logits, labels, reduction="none"), labels)
    gradients = [each.grad for each in parameters]
    return torch.cat([each.flatten() for each in gradients])
