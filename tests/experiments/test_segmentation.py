"""Segmentation as a protocol: a folder of a few images and masks, and a random CLIPSeg or the demo's CLIP."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessorPil
from tuners.clip_models import clip_tokenizer, make_model

from hf_sharp_prompt import demo
from hf_sharp_prompt.experiments import segmentation
from hf_sharp_prompt.experiments.methods import parse_methods


NAMES = ["background", "cat", "cow", "dog", "hen"]
SHORT = ["--shots", "2", "--seeds", "1", "--max_steps", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of different sizes, each with two classes and background."""
    root, rng = tmp_path_factory.mktemp("farm"), np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 5)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            height, width = rng.integers(20, 60, 2)
            values = np.zeros((height, width), np.uint8)
            values[2:9], values[10:15, 3:] = index % 4 + 1, (index + 1) % 4 + 1
            pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{index}.png")
            Image.fromarray(values).save(root / split / "masks" / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory):
    path = tmp_path_factory.mktemp("clipseg")
    make_model("CLIPSegForImageSegmentation").save_pretrained(path)
    CLIPSegProcessor(ViTImageProcessorPil(size={"height": 48, "width": 48}), clip_tokenizer()).save_pretrained(path)
    return path


def results_of(directory, folder):
    return json.loads((directory / folder.name / "summary.json").read_text())


def test_it_trains_on_base_classes_and_measures_all_three_sets(folder, clipseg, run, tmp_path, caplog):
    arguments = ["--model", clipseg, "--dataset", folder, *SHORT]
    printed = run(segmentation, *arguments)
    assert "2 base and 2 novel classes, learned from 2 images of each base class. Background is negative" in printed
    results = results_of(tmp_path / "out", folder)
    assert results.keys() == {"zero-shot", "coop"}
    for result in (*results["zero-shot"], *results["coop"]):
        assert all(0 <= result[key] <= 1 for key in segmentation.Segmentation.columns.values())
    directory = tmp_path / "out" / folder.name
    for figure in ("mean_iou.png", "predictions.png", "coop/seed1/predictions.png"):
        assert (directory / figure).read_bytes().startswith(b"\x89PNG")
    run(segmentation, *arguments)
    assert "is finished and not run again" in caplog.text
    model = PeftModel.from_pretrained(
        CLIPSegForImageSegmentation.from_pretrained(clipseg), directory / "coop" / "seed1"
    )
    assert model.active_peft_config.class_names == ["cat", "cow"]
    index = (tmp_path / "out" / "README.md").read_text()
    assert "CLIPSegForImageSegmentation.from_pretrained" in index


def make(folder, tmp_path, *arguments):
    words = ["--dataset", folder, "--output_dir", tmp_path, *SHORT, "--recipes", "coop", "--use_cpu", *arguments]
    args, (method,) = parse_methods(segmentation.argument_groups(), "", [*map(str, words)])
    return segmentation.Segmentation(str(folder), args, method.training), method


def test_novel_pixels_are_ignored_in_training_and_each_set_has_its_own_truth(folder, clipseg, tmp_path):
    experiment, _ = make(folder, tmp_path, "--model", clipseg, "--shots", "all")
    trained = experiment.make_collator("base", measures=False)(list(experiment.draw_rows(1)))
    assert trained["labels"].unique().tolist() == [-100, -1, 0, 1]
    seen = {}
    for name in ("base", "novel", "all"):
        images = experiment.images_to_measure(name, as_pixels=False)
        batch = experiment.make_collator(name, measures=True)([images[index] for index in range(len(images))])
        counted = batch["labels"][batch["labels"] != -100]
        seen[name] = counted.unique().tolist()
        assert batch["label_sizes"].unique(dim=0).shape[0] > 1
        assert "image_features" in batch
    assert seen == {"base": [-1, 0, 1], "novel": [-1, 0, 1], "all": [-1, 0, 1, 2, 3]}


def test_features_and_pixels_measure_alike(folder, clipseg, tmp_path):
    results = []
    for cache in ("memory", "no"):
        experiment, method = make(folder, tmp_path, "--model", clipseg, "--cache_features", cache)
        trainer = experiment.make_trainer(method, experiment.training_of(method, 1))
        results.append({key: value for key, value in experiment.measure(trainer).items() if key != "details"})
    assert results[0] == pytest.approx(results[1], abs=1e-3)


def test_a_clip_segments_by_its_patches(folder, run, tmp_path):
    printed = run(segmentation, "--model", demo.CLIP_PATH, "--dataset", folder, *SHORT, "--image_size", 64)
    assert "Background is ignored" in printed
    (result,) = results_of(tmp_path / "out", folder)["coop"]
    assert 0 < result["all_pixels"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", demo.VIT_PATH], "is a model of the type 'vit', but this experiment is of clipseg, clip"),
        (["--model", demo.CLIP_PATH, "--pixel_loss", "binary"], "pixel_loss='binary' is not for CLIPModel"),
        (["--model", demo.CLIP_PATH, "--recipes", "cocoop"], "segmentation compares pixels; use conditional=False"),
        (["--model", demo.CLIP_PATH, "--eval_split", "validation"], "has no validation split; it has test, train"),
    ],
)
def test_what_does_not_fit_ends_in_one_sentence(arguments, message, folder, tmp_path):
    def begin():
        experiment, method = make(folder, tmp_path, *arguments)
        experiment.make_trainer(method, experiment.training_of(method, 1))

    with pytest.raises(ValueError, match=message):
        begin()


def test_the_counts_of_the_trainer_are_those_of_every_image_at_its_own_size(folder, clipseg, tmp_path):
    """Batches of several sizes are padded, and what is padded must not count."""
    experiment, method = make(folder, tmp_path, "--model", clipseg, "--per_device_eval_batch_size", "2")
    trainer = experiment.make_trainer(method, experiment.training_of(method, 1))
    measured = experiment.measure(trainer)
    model = trainer.model.eval()
    right = counted = 0
    for row in experiment.rows["test"]:
        batch = experiment.make_collator("all", measures=True)([row])
        with torch.no_grad():
            names = {"names": experiment.names["all"], "tokenizer": clip_tokenizer(), "template": "{}."}
            answer = model.classify(batch["pixel_values"], **names)
        scaled = torch.nn.functional.interpolate(answer.logits, batch["labels"].shape[1:], mode="bilinear")[0]
        predicted = torch.where(scaled.amax(0) < 0, -1, scaled.argmax(0))
        right += int((predicted == batch["labels"][0]).sum())
        counted += batch["labels"].numel()
    assert measured["all_pixels"] == pytest.approx(right / counted, abs=1e-3)
