"""Runs of SharpPromptTrainer that segment: a random CLIPSeg or CLIP, and masks of which different parts count."""

import torch
from peft import get_peft_model
from training import small_runs
from tuners.clip_models import clip_tokenizer, make_model

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, metrics


CLASSES = ["red circle", "blue heart", "green star"]


def make_segmenter(name="CLIPSegForImageSegmentation", **config):
    base = make_model(name, torch.float64)
    torch.manual_seed(0)
    defaults = {"num_text_tokens": 3, "tokenizer_name_or_path": clip_tokenizer().name_or_path}
    model = get_peft_model(base, CLIPPromptConfig(**{**defaults, "task": "image-segmentation", **config}))
    with torch.no_grad():
        for prompt in (each for each in model.parameters() if each.requires_grad):
            prompt.normal_(std=0.5)
    model.set_classes(CLASSES, clip_tokenizer(), "{}.")
    return model


def make_masks(count=12, background=True, size=12):
    """Images and masks; of the first mask nothing counts, of the others more and more."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(count, 3, 48, 48, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1 if background else 0, len(CLASSES), (count, size, size), generator=generator)
    for index, each in enumerate(labels):
        each.view(-1)[: size * size * (count - index) // count] = -100
    return [{"pixel_values": pixel, "labels": label} for pixel, label in zip(pixels, labels)]


def make_trainer(output_dir, model=None, data=None, **arguments) -> SharpPromptTrainer:
    model = make_segmenter() if model is None else model
    arguments = {"learning_rate": 1e4, **arguments}  # a random model's texts matter little to it
    return small_runs.make_trainer(output_dir, model, make_masks() if data is None else data, **arguments)


def prompt_of(model) -> torch.Tensor:
    (prompt,) = (each.detach().clone() for each in model.parameters() if each.requires_grad)
    return prompt


def train(output_dir, **arguments) -> torch.Tensor:
    trainer = make_trainer(output_dir, **arguments)
    trainer.train()
    return prompt_of(trainer.model)


def train_and_measure(output_dir, **arguments) -> torch.Tensor:
    """What is learned from 10 images, and then measured on 7; neither divides into equal shares."""
    trainer = make_trainer(
        output_dir,
        data=make_masks(10),
        trainer_arguments={
            "eval_dataset": make_masks(7),
            "preprocess_logits_for_metrics": metrics.count_pixels_of_logits,
            "compute_metrics": metrics.segmentation_scores,
        },
        **arguments,
    )
    trainer.train()
    measured = trainer.evaluate()
    scores = torch.tensor([measured["eval_mean_iou"], measured["eval_pixel_accuracy"]], dtype=torch.float64)
    return torch.cat([(prompt_of(trainer.model) - prompt_of(make_segmenter())).flatten(), scores])
