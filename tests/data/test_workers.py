"""Images decoded and augmented in data loader workers: other crops everywhere, and the same ones in the same run."""

import pickle
from pathlib import Path

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from peft import get_peft_model
from transformers import CLIPModel, set_seed

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.data import ImageCollator, RandomResizedCropFlip


COUNT = 8
NAMES = ["ant", "bee"]


@pytest.fixture
def same_images(images) -> Dataset:
    """One image, many times: what differs between batches is the augmentation."""
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=NAMES)})
    made = Dataset.from_dict({"image": images[:1] * COUNT, "label": [0, 1] * (COUNT // 2)}, features)
    return made.cast_column("image", datasets.Image(decode=False))


@pytest.fixture
def make_trainer(checkpoint, same_images, image_processor, tokenizer, tmp_path):
    def make(**arguments) -> SharpPromptTrainer:
        set_seed(3)
        model = get_peft_model(CLIPModel.from_pretrained(checkpoint), CLIPPromptConfig(num_text_tokens=2))
        model.set_classes(NAMES, tokenizer)
        training = SharpPromptTrainingArguments(
            str(tmp_path / "run"),
            seed=3,
            use_cpu=True,
            optim="sgd",
            learning_rate=1.0,
            save_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **arguments,
        )
        collator = ImageCollator(image_processor, RandomResizedCropFlip(48))
        return SharpPromptTrainer(model, training, collator, train_dataset=same_images)

    return make


def test_the_collator_can_be_sent_to_workers(images, image_processor):
    """Where workers are not forked (macOS, Windows), it is pickled."""
    collator = ImageCollator(image_processor, RandomResizedCropFlip(48))
    batches = []
    for each in (collator, pickle.loads(pickle.dumps(collator))):
        torch.manual_seed(0)
        batches.append(each([{"image": image} for image in images])["pixel_values"])
    assert torch.equal(*batches)
    assert pickle.loads(pickle.dumps(collator)).fingerprint == collator.fingerprint


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_crops_differ_between_workers_and_epochs_and_are_the_same_in_the_same_run(workers, persistent, make_trainer):
    """Otherwise workers train on copies of each other's crops, every epoch on the same, or no run can be repeated."""
    runs = []
    for _ in range(2):
        trainer = make_trainer(
            per_device_train_batch_size=1,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=persistent,
        )
        loader = trainer.get_train_dataloader()
        set_seed(3)
        runs.append([batch["pixel_values"] for _ in range(2) for batch in loader])
    crops = torch.cat(runs[0])
    assert len(crops) == len(crops.unique(dim=0)) == 2 * COUNT
    assert torch.equal(torch.cat(runs[1]), crops)


def test_a_run_on_pixels_resumes_on_the_same_crops(make_trainer, tmp_path):
    """Workers that start with each epoch are seeded by the random numbers that checkpoints hold; see the arguments."""
    arguments = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "dataloader_num_workers": 1}

    def prompts(trainer: SharpPromptTrainer) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad])

    whole = make_trainer(**arguments)
    whole.train()
    resumed = make_trainer(**arguments)
    start = prompts(resumed)
    resumed.train(resume_from_checkpoint=str(Path(tmp_path, "run", "checkpoint-2")))
    assert resumed.state.global_step == 4
    assert torch.equal(prompts(resumed), prompts(whole))
    assert not torch.equal(prompts(resumed), start)


def test_a_broken_image_is_named_from_a_worker_too(same_images, make_trainer):
    """Otherwise workers hide which of ten thousand files is broken."""
    trainer = make_trainer(dataloader_num_workers=1)
    broken = {"bytes": b"<html>", "path": "photos/7.jpg"}
    features = same_images.features
    trainer.train_dataset = Dataset.from_dict({"image": [broken] * 8, "label": [0] * 8}, features)
    with pytest.raises(ValueError, match=r"The image photos/7.jpg cannot be decoded"):
        next(iter(trainer.get_train_dataloader()))
