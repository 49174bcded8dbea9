"""`--smoke` tries a command, and never among results."""

import json

import pytest
from support.demo_images import few_images

from hf_sharp_prompt.experiments import (
    base_to_novel,
    clip,
    cross_dataset,
    domain_generalization,
    few_shot,
    long_tail,
    smoke,
    summary,
)
from hf_sharp_prompt.experiments.methods import parse_methods


PROTOCOLS = [base_to_novel, few_shot, cross_dataset, domain_generalization]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_smoke_test_is_no_result(protocol, run, tmp_path):
    printed = run(protocol, "--smoke")
    assert smoke.NOTE in printed
    assert not (tmp_path / "out").exists()
    assert "no result" in (tmp_path / "out-smoke" / "README.md").read_text()
    assert all(group.smoke for group in summary.gather([tmp_path]))
    (settings, *_) = (tmp_path / "out-smoke").rglob("_settings.json")
    assert json.loads(settings.read_text())["num_train_epochs"] == 2
    assert {path.parent.name for path in (tmp_path / "out-smoke").rglob("metrics.json")} == {"seed1"}


def test_a_smoke_test_is_not_counted_beside_results(run, tmp_path):
    run(few_shot, "--shots", "1", "--seeds", "2", output_dir=tmp_path / "runs" / "few_shot")
    run(few_shot, "--smoke", output_dir=tmp_path / "runs" / "few_shot")
    (group,) = summary.gather([tmp_path / "runs"])
    assert [run["seed"] for run in group.results["coop"]] == [2]


def test_few_images_of_few_classes_are_left():
    kept = smoke.with_few_images(few_images(10, train=3, test=3))
    assert {name: len(split) for name, split in kept.items()} == {"train": 16, "test": 16}
    assert len(kept["test"].features["label"].names) == 8
    alone = smoke.with_few_images(few_images(10, test=3))  # as ImageNet's variants are
    assert {name: len(split) for name, split in alone.items()} == {"test": 16}


def test_stages_of_a_method_fit_into_a_smoke_test(tmp_path):
    """Re-weighting from epoch 4 on, or a subspace of 30 epochs, would be refused in a run of two."""
    words = ["--smoke", "--use_cpu", "--output_dir", str(tmp_path)]
    _, (subspace,) = parse_methods(base_to_novel.argument_groups(), "", [*words, "--recipes", "subpt"])
    assert (subspace.training.subspace_epochs, subspace.training.subspace_rank) == (2, 1)
    args, (reweighted,) = parse_methods(long_tail.argument_groups(), "", [*words, "--recipes", "rsam_pt"])
    assert reweighted.training.reweighting_epochs == [1]
    made = long_tail.LongTail.__new__(long_tail.LongTail)
    made.args, made.profile = args, "exponential"
    counts = made.make_counts([100] * 24)
    assert (max(counts), min(counts)) == (4, 1)


def test_a_real_run_takes_what_it_is_asked_for(run):
    assert len(clip.load_image_dataset("whole")["train"]) == 12
    args, (method,) = parse_methods(few_shot.argument_groups(), "", ["--use_cpu", "--recipes", "coop"])
    assert args.shots == ["1", "2", "4", "8", "16", "all"]
    assert method.training.output_dir == "runs/few_shot"
