"""Samplers see each class as often as they say, again in each epoch, and every process has its own share."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from hf_sharp_prompt.data import ClassFrequencySampler


COUNTS = np.asarray([900, 90, 10])
LABELS = np.random.RandomState(0).permutation(np.repeat(range(3), COUNTS))


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (ClassFrequencySampler.class_balanced(LABELS), [1 / 3, 1 / 3, 1 / 3]),
        (ClassFrequencySampler.square_root(LABELS), np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
        (ClassFrequencySampler(LABELS, exponent=1), COUNTS / COUNTS.sum()),
    ],
    ids=["class-balanced", "square-root", "instance-balanced"],
)
def test_classes_come_as_often_as_promised(sampler, expected):
    """Otherwise the tail is not seen as often as the method assumes, or its few images are not seen equally often."""
    drawn = np.concatenate([list(sampler) for _ in range(30)])
    assert len(sampler) == 1000
    shares = np.bincount(LABELS[drawn]) / len(drawn)
    spread = np.sqrt(np.asarray(expected) * (1 - np.asarray(expected)) / len(drawn))
    assert (np.abs(shares - expected) < 4 * spread).all()
    rare = np.bincount(drawn, minlength=1000)[LABELS == 2]
    assert rare.min() > 0.7 * rare.mean()


def test_an_epoch_is_the_seed_s_and_its_number_s():
    """Otherwise a run cannot be repeated, or resumed in the middle."""
    sampler = ClassFrequencySampler.class_balanced(LABELS, seed=1)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(ClassFrequencySampler.class_balanced(LABELS, seed=1)) == first
    assert list(ClassFrequencySampler.class_balanced(LABELS, seed=2)) not in (first, second)


def test_global_random_numbers_are_neither_used_nor_moved():
    """Otherwise the sampler changes what augmentation and dropout draw."""
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = list(ClassFrequencySampler.class_balanced(LABELS))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert list(ClassFrequencySampler.class_balanced(LABELS)) == first


def batches(num_processes: int, process: int, epoch: int) -> list[list[int]]:
    """As Accelerate prepares the loader in the Trainer; each process seeds torch as it likes."""
    torch.manual_seed(process)
    loader = DataLoader(range(len(LABELS)), 10, sampler=ClassFrequencySampler.class_balanced(LABELS, seed=5))
    prepared = prepare_data_loader(
        loader, num_processes=num_processes, process_index=process, use_seedable_sampler=True
    )
    prepared.set_epoch(epoch)
    return [batch.tolist() for batch in prepared]


def test_processes_share_the_batches_of_one():
    """Otherwise two GPUs draw the same samples twice, or the class frequencies depend on how many there are."""
    alone = batches(1, 0, epoch=3)
    assert [batches(2, 0, epoch=3), batches(2, 1, epoch=3)] == [alone[0::2], alone[1::2]]
    assert batches(1, 0, epoch=4) != alone


@pytest.mark.parametrize("exponent", [-0.5, 1.5])
def test_an_exponent_out_of_range_is_refused(exponent):
    with pytest.raises(ValueError, match="exponent must be between 0"):
        ClassFrequencySampler(LABELS, exponent)
