"""Learned on one data set, measured on others: by their own class names and templates."""

import json

import datasets
import pytest

from hf_sharp_prompt.experiments import clip, cross_dataset, domain_generalization
from hf_sharp_prompt.experiments.methods import parse_methods


def make(protocol, kind, tmp_path, *arguments):
    words = ["--output_dir", str(tmp_path), "--use_cpu", "--recipes", "coop", "--shots", "1", *arguments]
    args, (method,) = parse_methods(protocol.argument_groups(), "", words)
    return kind(args.dataset[0], args, method.training)


def test_targets_are_measured_beside_the_source(run, tmp_path):
    printed = run(cross_dataset, "--shots", "1", "--seeds", "1", "--targets", "texture_shape_fog", "halved")
    directory = tmp_path / "out" / "colour_shape_tint"
    summary = json.loads((directory / "summary.json").read_text())
    for method in ("zero-shot", "coop"):
        (result,) = summary[method]
        fog, halved = result["target texture_shape_fog"], result["target halved"]
        assert result["mean_of_targets"] == pytest.approx((fog + halved) / 2)
        assert fog == result["source"] or method == "zero-shot", "the same images by another name"
    assert "mean of targets" in printed
    assert (directory / "accuracy_by_data_set.png").is_file()
    index = (tmp_path / "out" / "README.md").read_text()
    assert "| method | colour_shape_tint | texture_shape_fog | halved | mean of targets | n |" in index


def test_other_targets_are_another_experiment(run):
    """Otherwise accuracies on one target would stand in a table of another."""
    run(cross_dataset, "--shots", "1", "--seeds", "1", "--targets", "texture_shape_fog")
    with pytest.raises(ValueError, match="holds another run: targets was"):
        run(cross_dataset, "--shots", "1", "--seeds", "1", "--targets", "halved")


def test_zero_shot_has_each_data_sets_template(run, tmp_path, monkeypatch):
    """Zero-shot CLIP with the source's words would be too weak a baseline on the targets."""
    made = make(cross_dataset, cross_dataset.CrossDataset, tmp_path, "--targets", "texture_colour_night")
    templates = {"colour_shape_tint": "a photo of a {}.", "texture_colour_night": "a photo of a {} thing."}
    assert made.templates == templates
    used, using = [], made.measure_baselines.__globals__["get_peft_model"]

    def observe(*args, **options):
        model = using(*args, **options)
        tuner = model.base_model
        original = tuner.using_classes
        tuner.using_classes = lambda names, processor, template: (
            used.append((len(names), template)),
            original(names, processor, template),
        )[1]
        return model

    monkeypatch.setattr(clip, "get_peft_model", observe)
    _, (method,) = parse_methods(
        cross_dataset.argument_groups(), "", ["--output_dir", str(tmp_path), "--use_cpu", "--recipes", "coop"]
    )
    made.measure_baselines(method.training)
    assert used == [(4, template) for template in templates.values()]


def test_a_variant_is_measured_among_the_classes_that_it_has(run, tmp_path):
    """ImageNet-A has 200 of the source's 1000 classes; among all of them its accuracy would be another one."""
    variants = ["--targets", "colour_shape_rain", "halved"]
    made = make(domain_generalization, domain_generalization.DomainGeneralization, tmp_path, *variants)
    names = made.splits["train"].features["label"].names
    assert made.targets["halved"].features["label"].names == [names[2], names[0]]
    assert made.targets["colour_shape_rain"].features["label"].names == names
    assert len(made.targets["halved"]) == 4
    run(domain_generalization, "--shots", "1", "--seeds", "1", *variants)
    (result,) = json.loads((tmp_path / "out" / "colour_shape_tint" / "summary.json").read_text())["coop"]
    assert result["target halved"] >= result["source"] - 0.5
    assert set(result) >= {"source", "target colour_shape_rain", "target halved", "mean_of_targets"}


def test_a_class_without_images_is_no_class_of_the_variant(run, tmp_path, monkeypatch):
    """A variant may name all of the source's classes and have images of some."""
    load_whole = clip.load_image_dataset

    def load(dataset, **loading):
        splits = load_whole("whole")
        if dataset == "halved":
            splits = datasets.DatasetDict(splits, test=splits["test"].filter(lambda each: each["label"] != 1))
        return splits

    monkeypatch.setattr(clip, "load_image_dataset", load)
    made = make(domain_generalization, domain_generalization.DomainGeneralization, tmp_path, "--targets", "halved")
    names = made.splits["train"].features["label"].names
    assert made.targets["halved"].features["label"].names == [names[0], *names[2:]]


def test_a_variant_with_other_classes_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"which is no class of halved.* for other classes there is cross_dataset"):
        make(
            domain_generalization,
            domain_generalization.DomainGeneralization,
            tmp_path,
            *("--dataset", "halved", "--targets", "whole"),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets", "a/x", "b/x"], "--targets has x more than once"),
        (["--targets", "colour_shape_tint"], "--targets has colour_shape_tint, which is learned from"),
        (["--dataset", "me/photos"], "--targets names the data sets to measure on; give at least one."),
        (["--targets"], "expected at least one argument"),
        (["--shots", "0"], "--shots must be at least 1, got 0."),
    ],
)
def test_wrong_targets_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_methods(cross_dataset.argument_groups(), "", ["--use_cpu", *arguments])
