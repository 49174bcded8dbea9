"""Learning to find objects in the Trainer: rules, objectives, shares of a batch, features, resuming."""

import pytest
import torch
from sharpness.every_rule import NEEDED, NEEDS_LABELS, names
from training.detection_runs import CLASSES, make_detector, make_scenes, make_trainer, prompt_of, train


DETECTING = [name for name in names() if name not in NEEDS_LABELS]
BATCH = ("image_features", "labels", "boxes")


def whole_batch(scenes) -> dict[str, torch.Tensor]:
    return {name: torch.stack([each[name] for each in scenes]) for name in BATCH}


@pytest.mark.parametrize("rule", DETECTING)
def test_every_rule_learns(rule, tmp_path):
    """Otherwise a method of the table of methods does not train a detector."""
    model, scenes = make_detector(), make_scenes(8)
    with torch.no_grad():
        before = model.eval()(**whole_batch(scenes)).loss
    arguments = {"sharpness": rule, "sharpness_args": NEEDED.get(rule), "max_steps": 4, "learning_rate": 0.02}
    make_trainer(tmp_path, model, scenes, per_device_train_batch_size=8, **arguments).train()
    with torch.no_grad():
        assert model.eval()(**whole_batch(scenes)).loss < before - 1e-4


@pytest.mark.parametrize("rule", ["none", "sam"])
def test_micro_batches_give_what_the_whole_batch_gives(rule, tmp_path):
    """They have 0 to 3 objects an image, so a mean over images or micro-batches would differ."""
    whole, _ = train(tmp_path, sharpness=rule)
    parts, _ = train(tmp_path, sharpness=rule, per_device_train_batch_size=2, gradient_accumulation_steps=3)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_m_sharpness_weighs_micro_batches_by_their_objects(tmp_path):
    """In plain descent the mean over parts is the whole batch's gradient, whatever their sizes."""
    arguments = {"sharpness": "none", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
    parts, _ = train(tmp_path, m_sharpness="micro_batch", **arguments)
    whole, _ = train(tmp_path, sharpness="none")
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_frozen_images_are_encoded_once_a_step_and_their_boxes_with_them(tmp_path):
    """A second evaluation of SAM must not cost a second pass through the image tower."""
    model, seen = make_detector(), []
    detector = model.get_base_model()
    detector.owlvit.vision_model.register_forward_hook(lambda *_: seen.append("image"))
    detector.box_head.register_forward_hook(lambda *_: seen.append("box"))
    make_trainer(tmp_path, model, make_scenes(6, pixels=True), num_train_epochs=1).train()
    assert seen == ["image", "box"]


def test_pixels_and_features_train_the_same(tmp_path):
    scenes = make_scenes(6, pixels=True)
    encode = make_detector().encode_images
    features = [
        {**each, "image_features": encode(pixel_values=each.pop("pixel_values")[None])[0]}
        for each in map(dict, scenes)
    ]
    learned = []
    for data in (scenes, features):
        trainer = make_trainer(tmp_path, data=data)
        trainer.train()
        learned.append(prompt_of(trainer.model))
    torch.testing.assert_close(learned[0], learned[1], rtol=0, atol=1e-12)


def test_vision_tokens_learn_boxes(tmp_path):
    model = make_detector(num_vision_tokens=2)
    trainer = make_trainer(tmp_path, model, make_scenes(6, pixels=True), max_steps=1)
    before = {name: each.clone() for name, each in model.named_parameters() if "vision_tokens" in name}
    trainer.train()
    assert before
    assert all((dict(model.named_parameters())[name] != each).any() for name, each in before.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sharpness": "imbsam", "sharpness_args": {"tail_classes": [0]}}, "sharpness='imbsam'"),
        ({"sharpness": "focalsam"}, "sharpness='focalsam'"),
        ({"sharpness": "saf"}, "the objective 'saf'"),
        ({"sharpness": "mesa"}, "the objective 'mesa'"),
        ({"objectives": ["promptsrc", "prograd"]}, "'promptsrc' and the objective 'prograd'"),
        ({"loss": "ldam", "class_counts": [3, 3, 3]}, "loss='ldam'"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
    ],
)
def test_what_needs_one_label_for_an_image_is_refused(arguments, words, tmp_path):
    with pytest.raises(ValueError, match=f"labels objects or pixels, and .*{words}.* needs one label"):
        make_trainer(tmp_path, **arguments).train()


def test_objectives_over_class_features_are_minimised(tmp_path):
    objectives = {"kgcoop": {}, "nfl": {"novel_class_names": ["grey ring", "pink cross"]}}
    trainer = make_trainer(tmp_path, objectives=objectives, max_steps=2)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["kgcoop_loss"] > 0
    assert first["nfl_loss"] > 0
    plain, _ = train(tmp_path, max_steps=2)
    assert (prompt_of(trainer.model) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("vision_tokens", [0, 1])
def test_the_card_says_what_was_learned(vision_tokens, tmp_path):
    model = make_detector(num_vision_tokens=vision_tokens)
    make_trainer(tmp_path, model, make_scenes(6, pixels=True), max_steps=1).train()
    model.save_pretrained(tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "pipeline_tag: zero-shot-object-detection" in card
    assert ("Boxes are those of the frozen model's head" in card) == (not vision_tokens)


def test_subpts_early_stage_finds_a_subspace(tmp_path):
    trainer = make_trainer(tmp_path, subspace_epochs=2, subspace_rank=1, num_train_epochs=3)
    trainer.train()
    assert trainer.subspace is not None


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path):
    arguments = {"sharpness": "fsam", "save_strategy": "steps", "save_steps": 3, "num_train_epochs": 2}
    whole, _ = train(tmp_path, **arguments)
    trainer = make_trainer(tmp_path, **arguments)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert torch.equal(prompt_of(trainer.model), whole)


def test_a_label_beyond_the_classes_is_named_before_it_is_learned(tmp_path):
    scenes = make_scenes(6)
    scenes[1]["labels"][0] = len(CLASSES)
    with pytest.raises(ValueError, match="Label 3 is not among the 3 classes"):
        make_trainer(tmp_path, data=scenes).train()


def test_a_batch_of_ignored_images_has_no_loss(tmp_path):
    scenes = [{**each, "labels": torch.full_like(each["labels"], -100)} for each in make_scenes(6)]
    trainer = make_trainer(tmp_path, data=scenes, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == 0
