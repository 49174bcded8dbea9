"""Two real processes do what one does, as two GPUs would: all of it in one start, which takes longer than the runs."""

import json
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from sharpness.slow_m_sharpness import reference
from training import detection_runs, long_tail_runs, segmentation_runs
from training.small_runs import KINDS, make_data, make_samples, train
from two_processes import examples, rules, runs
from two_processes.launch import run_in_two_processes
from two_processes.runs import AS_DASSL, DETECTION, KEEPING_CLOSE, LONG_TAILS, OTHER_SHARES, SEGMENTATION


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory) -> Path:
    """Where two processes have written what they made, and what they printed."""
    output_dir = tmp_path_factory.mktemp("two")
    examples.make_data(output_dir)
    printed = run_in_two_processes(__file__, output_dir, ACCELERATE_USE_CPU="0")
    (output_dir / "printed.txt").write_text(printed)
    return output_dir


@pytest.fixture(scope="module")
def of_two_processes(output_dir) -> list[dict]:
    """What each process made, by the name of the run."""
    return [torch.load(output_dir / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(("name", "form", "wrapped"), rules.LOOPS)
def test_a_loop_of_ones_own_gives_the_same_parameters(name, form, wrapped, of_two_processes):
    """Otherwise what is learned depends on the number of GPUs."""
    expected = rules.train(name, form)
    for process in of_two_processes:
        for one, other in zip(process[f"{name}, {form}, {wrapped}"], expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "scope", "wrapped"), rules.APART)
def test_each_perturbs_for_itself_with_m_sharpness(name, scope, wrapped, of_two_processes):
    """Otherwise `process` is what one process does, or depends on how the gradients are averaged."""
    expected = reference(name, rules.PARTS[scope])
    for process in of_two_processes:
        torch.testing.assert_close(process[f"{name}, {scope}, {wrapped}"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", KINDS)
def test_two_processes_give_the_same_prompts_as_one(rule, tmp_path, of_two_processes):
    """A second GPU must change the time a run takes, not its result.

    The last step's shares are 3 and 1 images; of the second one Accelerate makes 3, which must not count twice.
    One rule of each kind is enough for the Trainer, as every rule is tried in a loop of one's own above.
    """
    alone = train(tmp_path, sharpness=rule, data=make_data(22), per_device_train_batch_size=6)
    first, second = of_two_processes
    torch.testing.assert_close(first[rule], second[rule], rtol=0, atol=0)
    torch.testing.assert_close(first[rule], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shares", OTHER_SHARES)
def test_two_processes_may_share_the_last_images_in_any_way(shares, tmp_path, of_two_processes):
    """Otherwise the size of the data set decides whether a second GPU changes the result."""
    arguments = {"label_smoothing_factor": OTHER_SHARES[shares].get("label_smoothing_factor", 0.0)}
    data = make_data(OTHER_SHARES[shares].get("count", 22))
    alone = train(tmp_path, sharpness="saf", data=data, per_device_train_batch_size=6, **arguments)
    exact = "smoothing" not in shares  # the smoother sums in float32
    torch.testing.assert_close(
        of_two_processes[0][shares], alone, rtol=1e-10 if exact else 1e-5, atol=1e-12 if exact else 1e-7
    )


def test_two_processes_resumed_within_a_later_epoch_end_on_the_same_bits(of_two_processes):
    """They have to go on in that epoch's order of images and with its views of them, not with the first one's."""
    for prompts in of_two_processes:
        assert torch.equal(prompts["resumed"], prompts["whole"])


def test_two_processes_see_other_views_in_each_epoch(of_two_processes):
    """Accelerate does not tell a shuffled data set of the epoch there; images would be cropped alike in all epochs."""
    seen = torch.cat([each["views"] for each in of_two_processes])
    assert len(seen.unique(dim=0)) > 12, "of twelve images"


def test_two_processes_and_objectives_of_the_frozen_model(tmp_path, of_two_processes):
    """Terms of samples and of the model alone, and a constraint, are of the whole batch as well."""
    alone = train(tmp_path, objectives=KEEPING_CLOSE, data=make_data(22), per_device_train_batch_size=6)
    torch.testing.assert_close(of_two_processes[0]["objectives"], alone, rtol=1e-10, atol=1e-12)


def test_two_processes_take_dassls_schedule_and_whole_batches(tmp_path, of_two_processes):
    """Otherwise an epoch has other steps, or they have other learning rates, on two GPUs than on one."""
    alone = train(tmp_path, data=make_data(22), per_device_train_batch_size=6, **AS_DASSL)
    torch.testing.assert_close(of_two_processes[0]["as dassl"], alone, rtol=1e-10, atol=1e-12)


def test_two_processes_train_one_hot_labels_like_one(tmp_path, of_two_processes):
    """The samples that fill up the last share do not count, whatever their labels; and CPUs need no flag."""
    alone = train(tmp_path, data=make_samples(soft=True), per_device_train_batch_size=6)
    for process in of_two_processes:
        torch.testing.assert_close(process["one-hot labels"], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LONG_TAILS)
def test_two_processes_train_a_long_tail_as_one(name, tmp_path, of_two_processes):
    """A second GPU must change neither which samples are drawn nor what they weigh."""
    alone = long_tail_runs.train(tmp_path, per_device_train_batch_size=10, **LONG_TAILS[name])
    for process in of_two_processes:
        torch.testing.assert_close(process[f"long tail, {name}"], alone, rtol=1e-10, atol=1e-12)


def test_two_processes_find_objects_as_one(tmp_path, of_two_processes):
    """Objects count, of which images have none to three; and every image is measured once, however many there are."""
    learned, measured = detection_runs.train(tmp_path, **{**DETECTION, "per_device_train_batch_size": 6})
    alone = torch.cat([learned.flatten(), measured])
    for process in of_two_processes:
        torch.testing.assert_close(process["detection"], alone, rtol=1e-10, atol=1e-12)


def test_two_processes_segment_as_one(tmp_path, of_two_processes):
    """Pixels count, of which images have different numbers; and every image is measured once."""
    alone = segmentation_runs.train_and_measure(tmp_path, **{**SEGMENTATION, "per_device_train_batch_size": 6})
    for process in of_two_processes:
        torch.testing.assert_close(process["segmentation"], alone, rtol=1e-8, atol=1e-12)


def test_base_to_novel_measures_what_one_process_does(output_dir, monkeypatch, capsys):
    """Two processes with half the batch each are the same experiment."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    examples.run_base_to_novel(output_dir, "one", batch_size=4)
    settings = json.loads(next((output_dir / "two").rglob("_settings.json")).read_text())
    assert settings["world_size"] == 2
    assert examples.metrics(output_dir / "two") == examples.metrics(output_dir / "one")


def test_the_long_tail_is_learned_from_a_data_set_of_ones_own(output_dir):
    """Images are decoded in workers, and augmented to train on but not to measure on."""
    printed = (output_dir / "printed.txt").read_text()
    assert "24 classes, 34 training images, 5 of the most frequent class and 1 of the rarest" in printed
    settings = json.loads(next((output_dir / "two long-tailed").rglob("_settings.json")).read_text())
    assert settings["world_size"] == 2
    (result,) = json.loads(next((output_dir / "two long-tailed").rglob("summary.json")).read_text())["rsam_pt"]
    assert result["many"] is None, "no class has more than 100 images, and JSON has no NaN"
    assert 0 <= result["few"] == result["overall"]


def test_the_plain_loop_runs_in_two_processes(output_dir):
    """The example for people with their own loop."""
    assert examples.plain_loops((output_dir / "printed.txt").read_text(), processes=2) == ["none", "sam"]


def main(output_dir: Path) -> None:
    """What each of the two processes runs."""
    made = dict(runs.train_all(output_dir)) | dict(rules.train_each())
    torch.save(made, output_dir / f"{torch.distributed.get_rank()}.pt")
    examples.run_all(output_dir)
    Accelerator(cpu=True).end_training()  # else a process may abort on its way out


if __name__ == "__main__":
    main(Path(sys.argv[1]))
