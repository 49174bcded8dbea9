"""Images decoded and augmented in data loader workers: other crops everywhere, and the same ones in the same run."""

import multiprocessing
import pickle
import random
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from peft import get_peft_model
from torch.utils.data import DataLoader
from transformers import CLIPModel, IntervalStrategy, set_seed

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments
from hf_sharp_prompt.data import ImageCollator, ImageFeatures, RandomResizedCropFlip


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
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **({"save_strategy": "no"} | arguments),
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
        loader.base_dataloader._iterator = None  # ends workers that live on, which takes the garbage collector seconds
    crops = torch.cat(runs[0])
    assert len(crops) == len(crops.unique(dim=0)) == 2 * COUNT
    assert torch.equal(torch.cat(runs[1]), crops)


def test_crops_are_the_same_however_many_workers_cut_them(make_trainer):
    """Otherwise a run gives other numbers on a machine with more cores."""
    crops = []
    for workers in (0, 1, 2):
        loader = make_trainer(per_device_train_batch_size=2, dataloader_num_workers=workers).get_train_dataloader()
        crops.append(torch.cat([batch["pixel_values"] for batch in loader]))
    assert torch.equal(crops[1], crops[0])
    assert torch.equal(crops[2], crops[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_models_random_numbers_alone(workers, make_trainer):
    """Otherwise dropout would differ between runs whose workers start at other times, as after a resume."""
    loader = make_trainer(per_device_train_batch_size=2, dataloader_num_workers=workers).get_train_dataloader()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    for _ in loader:
        pass
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_a_data_set_that_augments_by_itself_is_seeded_too(make_trainer):
    """As with `set_transform`, and with whichever library's random numbers."""

    def transform(examples: dict) -> dict:
        drawn = [[random.random(), np.random.rand(), float(torch.rand(()))] for _ in examples["label"]]
        return {"pixel_values": torch.tensor(drawn), "labels": examples["label"]}

    seen = []
    for workers in (0, 2):
        trainer = make_trainer(per_device_train_batch_size=2, dataloader_num_workers=workers)
        trainer.train_dataset = trainer.train_dataset.with_transform(transform)
        loader = trainer.get_train_dataloader()
        seen.append(torch.cat([batch["pixel_values"] for _ in range(2) for batch in loader]))
    assert torch.equal(*seen)
    assert all(len(drawn.unique()) == 2 * COUNT for drawn in seen[0].T)


def test_a_sample_that_is_drawn_twice_is_cut_twice(make_trainer, same_images):
    """A class with one image is drawn often when classes are balanced; copies of one crop would teach it nothing."""
    trainer = make_trainer(per_device_train_batch_size=8, train_sampling_strategy="class_balanced")
    trainer.train_dataset = same_images.select([0, 1])
    draws = [batch["pixel_values"] for batch in trainer.get_train_dataloader()]
    assert len(torch.cat(draws).unique(dim=0)) == 2


@pytest.mark.parametrize("step", [1, 2, 3], ids=["within the first epoch", "between epochs", "within the second"])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_a_run_on_pixels_resumes_on_the_same_crops(workers, persistent, step, make_trainer, tmp_path):
    """Batches are made ahead of the step, and workers start again: neither must show."""
    arguments = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1}
    arguments |= {"dataloader_num_workers": workers, "dataloader_persistent_workers": persistent}
    whole = make_trainer(**arguments)
    whole.train()
    resumed = make_trainer(**arguments)
    start = prompts(resumed)
    resumed.train(resume_from_checkpoint=str(Path(tmp_path, "run", f"checkpoint-{step}")))
    assert resumed.state.global_step == 4
    assert torch.equal(prompts(resumed), prompts(whole))
    assert not torch.equal(prompts(resumed), start)


def test_a_run_on_views_of_images_resumes_on_the_same_views(make_trainer, tmp_path):
    """Which of an image's cached crops a step sees is drawn again in every epoch."""
    arguments = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1}
    features = torch.randn(COUNT, 5, 24, generator=torch.Generator().manual_seed(1))
    views = ImageFeatures(features, torch.tensor([0, 1] * (COUNT // 2)), NAMES)

    def train(checkpoint: str | None = None) -> torch.Tensor:
        trainer = make_trainer(**arguments)
        trainer.train_dataset = views
        trainer.train(resume_from_checkpoint=checkpoint)
        return prompts(trainer)

    whole = train()
    for step in (1, 3):
        assert torch.equal(train(str(Path(tmp_path, "run", f"checkpoint-{step}"))), whole)


def prompts(trainer: SharpPromptTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad])


def test_a_loader_of_ones_own_is_taken_as_it_is(make_trainer):
    """Overriding get_train_dataloader is how users of the Trainer bring their own."""
    trainer = make_trainer(num_train_epochs=1)
    before = prompts(trainer)
    loader = DataLoader(trainer.train_dataset, 4, collate_fn=trainer.data_collator)
    trainer.get_train_dataloader = lambda: loader
    trainer.train()
    assert trainer.state.global_step == COUNT // 4
    assert not torch.equal(prompts(trainer), before)


def test_workers_end_with_the_run(make_trainer):
    """Otherwise a script of many runs is crowded with idle processes, each of which takes seconds to be got rid of."""
    before = set(multiprocessing.active_children())
    trainer = make_trainer(num_train_epochs=1, dataloader_num_workers=1, dataloader_persistent_workers=True)
    trainer.train()
    assert set(multiprocessing.active_children()) <= before


def test_a_broken_image_is_named_from_a_worker_too(same_images, make_trainer):
    """Otherwise workers hide which of ten thousand files is broken."""
    trainer = make_trainer(dataloader_num_workers=1)
    broken = {"bytes": b"<html>", "path": "photos/7.jpg"}
    features = same_images.features
    trainer.train_dataset = Dataset.from_dict({"image": [broken] * 8, "label": [0] * 8}, features)
    with pytest.raises(ValueError, match=r"The image photos/7.jpg cannot be decoded"):
        next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize("trains", [False, True])
def test_workers_that_evaluate_end_with_the_evaluation_or_the_run(make_trainer, trains):
    """Left to the garbage collector, each makes somebody else wait for 5 seconds."""
    before = set(multiprocessing.active_children())
    trainer = make_trainer(num_train_epochs=1, dataloader_num_workers=1, dataloader_persistent_workers=True)
    trainer.eval_dataset = trainer.train_dataset
    if trains:
        trainer.args.eval_strategy = IntervalStrategy.EPOCH
        trainer.train()
    else:
        trainer.evaluate()
    assert set(multiprocessing.active_children()) <= before
