"""Images and texts go through a frozen tower as seldom as can be, and through one that learns as often as needed."""

import copy

import pytest
import torch
from peft import get_peft_model
from support.demo_images import few_images
from training.small_runs import (
    CLASSES,
    load_clip,
    load_processor,
    make_data,
    make_images,
    make_model,
    make_trainer,
    prompt_of,
)
from transformers import AutoProcessor

from hf_sharp_prompt import CLIPPromptConfig
from hf_sharp_prompt.data import ImageFeatures
from hf_sharp_prompt.demo import CLIP_PATH


def test_images_are_trained_on_as_they_come(tmp_path):
    """With the processor given, a data set of images needs no preparation."""
    splits = few_images(6, train=2, test=2)
    names = splits["train"].features["label"].names
    processor = AutoProcessor.from_pretrained(CLIP_PATH)
    model = make_model(torch.float32)
    model.set_classes(names, processor, "{}.")
    trainer = make_trainer(
        tmp_path,
        model=model,
        data=splits["train"].shuffle(0),
        trainer_arguments={"processing_class": processor, "eval_dataset": splits["test"].select(range(8))},
    )
    before = prompt_of(model)
    trainer.train()
    assert not torch.equal(prompt_of(model), before)
    assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_frozen_image_tower_runs_once_per_image_and_step(accumulation, tmp_path):
    """Each of SAM's evaluations sees the same images; encoding them again would double what a step costs."""
    images = make_images(12)
    seen = []
    model = make_model(torch.float32)
    model.get_base_model().vision_model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 3, "gradient_accumulation_steps": accumulation}
    trainer = make_trainer(tmp_path, model=model, data=images, **arguments)
    trainer.train()
    assert seen == [3, 3, 3, 3]
    encoded = make_model(torch.float32)
    with torch.no_grad():
        pixels = torch.stack([each["pixel_values"] for each in images])
        features = encoded.get_image_features(pixels).pooler_output
    labels = torch.tensor([each["labels"] for each in images])
    of_features = ImageFeatures(features.unsqueeze(1), labels, CLASSES)
    make_trainer(tmp_path / "features", model=encoded, data=of_features, **arguments).train()
    torch.testing.assert_close(prompt_of(model), prompt_of(encoded), rtol=1e-4, atol=1e-6)


def test_a_tower_that_trains_sees_the_images_in_every_evaluation(tmp_path):
    """Its features are another function at every perturbed point."""
    seen = []
    model = make_model(torch.float32, num_vision_tokens=2)
    model.get_base_model().vision_model.register_forward_hook(lambda *_: seen.append(1))
    make_trainer(tmp_path, model=model, data=make_images(6), max_steps=1).train()
    assert len(seen) == 2


def test_texts_that_are_not_prompted_are_encoded_once_per_run(tmp_path):
    """Where only the image tower learns, a thousand class texts say the same in every step."""
    calls = []
    clip = copy.deepcopy(load_clip(torch.float32))
    clip.text_model.register_forward_hook(lambda *_: calls.append(1))
    model = get_peft_model(clip, CLIPPromptConfig.vpt(num_vision_tokens=2, vision_depth=1))
    model.set_classes(CLASSES, load_processor(), "a photo of a {}.")
    make_trainer(tmp_path, model=model, data=make_images(6), max_steps=2).train()
    assert len(calls) == 1


def test_evaluations_within_a_run_use_the_features_of_texts_that_are_not_prompted(tmp_path):
    """Otherwise a thousand class texts are encoded again after every epoch."""
    calls = []
    clip = copy.deepcopy(load_clip(torch.float32))
    clip.text_model.register_forward_hook(lambda *_: calls.append(1))
    model = get_peft_model(clip, CLIPPromptConfig.vpt(num_vision_tokens=2, vision_depth=1))
    model.set_classes(CLASSES, load_processor(), "a photo of a {}.")
    evaluating = {"trainer_arguments": {"eval_dataset": make_images(6)}, "eval_strategy": "epoch"}
    make_trainer(tmp_path, model=model, data=make_images(6), **evaluating).train()
    assert len(calls) == 1
    clip.text_model.config.attention_dropout = 0.1
    make_trainer(tmp_path, model=model, data=make_images(6), **evaluating).train()
    assert len(calls) == 1 + 2 * (2 + 1), "what is dropped differs in each of SAM's steps, and in no evaluation"


def test_the_texts_of_classes_are_read_once(tmp_path, monkeypatch):
    """Seeds, methods and evaluations ask for the same ones."""
    processor, reads = copy.deepcopy(load_processor()), []
    tokenizer = type(processor.tokenizer)
    read = tokenizer.__call__
    monkeypatch.setattr(tokenizer, "__call__", lambda *args, **kwargs: reads.append(1) or read(*args, **kwargs))
    for _ in range(2):
        make_model(torch.float32).set_classes(CLASSES, processor, "a drawing of a {}.")
        assert len(reads) == 2, "the texts, and the texts up to their names"
    processor.tokenizer.add_tokens(["circle"])
    with pytest.raises(ValueError, match="vocabulary"):
        make_model(torch.float32).set_classes(CLASSES, processor, "a drawing of a {}.")


def test_class_features_are_computed_once_per_evaluation(tmp_path):
    """A thousand classes are encoded once, not with every batch of images."""
    calls = []
    model = make_model()
    model.get_base_model().text_model.final_layer_norm.register_forward_hook(lambda *_: calls.append(1))
    trainer = make_trainer(
        tmp_path, model=model, per_device_eval_batch_size=5, trainer_arguments={"eval_dataset": make_data(20)}
    )
    first = trainer.evaluate()["eval_loss"]
    assert len(calls) == 1
    with torch.no_grad():
        model.get_base_model().text_model.embeddings.clip_prompt_context["default"].add_(0.5)
    assert trainer.evaluate()["eval_loss"] != first, "the next evaluation sees the new prompt"
