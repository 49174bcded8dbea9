"""Training with masks: the sharpness rules, parts of a batch, resuming, and what has no meaning."""

import pytest
import torch
from sharpness.every_rule import NEEDS_LABELS
from training.segmentation_runs import make_masks, make_segmenter, make_trainer, prompt_of, train
from training.small_runs import RULES

from hf_sharp_prompt import metrics
from hf_sharp_prompt.objectives import sharpness_aware_names


NEEDING_ONE_LABEL = [*sorted(NEEDS_LABELS), *sharpness_aware_names()]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NEEDING_ONE_LABEL])
def test_every_rule_moves_the_prompt(rule, tmp_path):
    """A rule that looks at one label for each image would fail here, and nowhere before."""
    model = make_segmenter()
    before = prompt_of(model)
    trainer = make_trainer(tmp_path, model, make_masks(6), sharpness=rule, num_train_epochs=1)
    trainer.train()
    assert not torch.equal(prompt_of(model), before)
    assert prompt_of(model).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        *(({"sharpness": name}, name) for name in NEEDING_ONE_LABEL),
        *(({"objectives": [name]}, name) for name in ("promptsrc", "prograd", "saf", "mesa")),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"loss": "logit_adjustment", "class_counts": [3, 2, 1]}, "logit_adjustment"),
    ],
)
def test_what_needs_one_label_for_each_image_is_refused(arguments, named, tmp_path):
    with pytest.raises(ValueError, match=f"labels objects or pixels, and .*{named}.*; leave it out"):
        make_trainer(tmp_path, **arguments).train()


@pytest.mark.parametrize("objectives", [{"kgcoop": {}}, {"nfl": {"novel_class_names": ["grey ring", "pink cross"]}}])
def test_objectives_over_class_features_are_minimised_too(objectives, tmp_path):
    """They keep prompts general, which is what novel classes need."""
    alone = train(tmp_path / "alone", num_train_epochs=1)
    kept = train(tmp_path / "kept", objectives=objectives, num_train_epochs=1)
    assert not torch.equal(alone, kept)


@pytest.mark.parametrize("name", ["CLIPSegForImageSegmentation", "CLIPModel"])
@pytest.mark.parametrize(("micro_batch", "steps"), [(5, 3), (3, 4)])
def test_accumulated_micro_batches_give_the_same_update(name, micro_batch, steps, tmp_path):
    """The loss is divided by the pixels that count in the whole step; micro-batches have different numbers of them."""
    start = prompt_of(make_segmenter(name))
    data = make_masks(12, background=name != "CLIPModel")
    whole = train(tmp_path / "whole", model=make_segmenter(name), data=data, per_device_train_batch_size=12)
    accumulated = train(
        tmp_path / "accumulated",
        model=make_segmenter(name),
        data=data,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=steps,
    )
    assert (whole - start).abs().max() > 1e-3
    torch.testing.assert_close(accumulated - start, whole - start, rtol=1e-8, atol=1e-12)


def test_m_sharpness_weighs_micro_batches_by_their_pixels(tmp_path):
    """Without a perturbation it makes no difference where the direction is taken."""
    arguments = {
        "data": make_masks(12),
        "per_device_train_batch_size": 5,
        "gradient_accumulation_steps": 3,
        "sharpness_args": {"rho": 1e-12},
        "num_train_epochs": 1,
    }
    start = prompt_of(make_segmenter())
    whole = train(tmp_path / "batch", **arguments)
    apart = train(tmp_path / "micro_batch", m_sharpness="micro_batch", **arguments)
    assert (whole - start).abs().max() > 1e-4
    torch.testing.assert_close(apart - start, whole - start, rtol=1e-6, atol=1e-12)


def test_visual_prompts_are_trained_with_pixels(tmp_path):
    model = make_segmenter(num_text_tokens=0, num_vision_tokens=2)
    before = prompt_of(model)
    make_trainer(tmp_path, model, make_masks(6), num_train_epochs=1).train()
    assert not torch.equal(prompt_of(model), before)


@pytest.mark.parametrize("rule", ["gcsam", "fsam"])
def test_a_resumed_run_ends_on_the_same_bits(rule, tmp_path):
    arguments = {"sharpness": rule, "save_strategy": "epoch", "num_train_epochs": 3}
    uninterrupted = train(tmp_path / "whole", **arguments)
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    trainer = make_trainer(tmp_path / "whole", **arguments)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert torch.equal(prompt_of(trainer.model), uninterrupted)


def test_subpts_early_stage_runs(tmp_path):
    trainer = make_trainer(tmp_path, sharpness="none", subspace_epochs=3, subspace_rank=1, num_train_epochs=3)
    trainer.train()
    assert prompt_of(trainer.model).isfinite().all()


def test_an_evaluation_of_the_trainer_measures_from_counts_of_pixels(tmp_path):
    """Logits of all pixels would not fit into memory; the counts of batches add up exactly."""
    data = make_masks(7)
    scores = []
    for batch_size in (7, 2):
        trainer = make_trainer(
            tmp_path,
            per_device_eval_batch_size=batch_size,
            trainer_arguments={
                "eval_dataset": data,
                "preprocess_logits_for_metrics": metrics.count_pixels_of_logits,
                "compute_metrics": metrics.segmentation_scores,
            },
        )
        scores.append(trainer.evaluate())
    assert scores[0]["eval_mean_iou"] == scores[1]["eval_mean_iou"] > 0
    labels = torch.stack([each["labels"] for each in data])
    with torch.no_grad():
        logits = trainer.model(pixel_values=torch.stack([each["pixel_values"] for each in data])).logits
    expected = metrics.segmentation_scores(metrics.count_pixels_of_logits(logits, labels))
    assert scores[0]["eval_pixel_accuracy"] == expected["pixel_accuracy"]


def test_labels_outside_the_classes_are_refused_where_batches_are_made(tmp_path):
    data = make_masks(6)
    data[3]["labels"][-1, -1] = 3
    with pytest.raises(ValueError, match="Label 3 is not among the 3 classes of the model"):
        make_trainer(tmp_path, data=data).train()
