"""Samplers that draw classes by their frequencies, evenly, or in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

import numpy as np
from torch.utils.data import RandomSampler, Sampler

from .labels import check_labels


class ClassFrequencySampler(Sampler[int]):
    """Draws classes with probability `p_c ∝ n_c^q`, and each draw's sample evenly from its class, with replacement.

    Every process draws the same indices, and Accelerate gives each process its share of the batches, as with a
    shuffled data set. Each epoch has its own draw. Accelerate and the Trainer set the epoch with `set_epoch`; without
    them it counts up. The global random numbers are not touched.

    Args:
        labels: The label of each sample.
        exponent: q: 1 draws samples evenly, 1/2 is square-root sampling, 0 is class-balanced.
        seed: Seed of the draws, together with the epoch.

    Raises:
        ValueError: The exponent is outside [0, 1], there are no samples, or a sample has no label.

    Reference:
        Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
        https://arxiv.org/abs/1910.09217
    """

    def __init__(self, labels: Sequence[int], exponent: float, seed: int = 0) -> None:
        if not 0 <= exponent <= 1:
            raise ValueError(f"exponent must be between 0 (class-balanced) and 1 (the data's own), got {exponent!r}.")
        numbers = check_labels(labels, (), "the labels to sample from")
        if not len(numbers):
            raise ValueError("There are no samples to draw from; give the label of at least one.")
        counts = np.bincount(numbers)
        self.exponent = exponent
        self.seed = seed
        self.epoch = 0
        weights = counts[numbers] ** (exponent - 1.0)
        self._probabilities = weights / weights.sum()

    @classmethod
    def class_balanced(cls, labels: Sequence[int], seed: int = 0) -> ClassFrequencySampler:
        """Draw every class equally often."""
        return cls(labels, exponent=0, seed=seed)

    @classmethod
    def square_root(cls, labels: Sequence[int], seed: int = 0) -> ClassFrequencySampler:
        """Draw classes in proportion to the square root of their number of samples."""
        return cls(labels, exponent=0.5, seed=seed)

    def __len__(self) -> int:
        return len(self._probabilities)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        yield from random.choice(len(self), len(self), p=self._probabilities).tolist()
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is drawn next, from 0."""
        self.epoch = epoch


class FirstSamples(Sampler[int]):
    """The first samples that another sampler draws in an epoch.

    Args:
        sampler: The other sampler.
        count: The number of samples of an epoch, at most those of the other.
    """

    def __init__(self, sampler: Sampler[int], count: int) -> None:
        self.sampler, self.count = sampler, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        # All are drawn, since a sampler may count its epochs at the end.
        yield from list(self.sampler)[: self.count]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the other sampler, where it has one."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


def only_whole_batches(sampler: Sampler[int], batch_size: int) -> Sampler[int]:
    """Leave out the samples at an epoch's end that would not fill a batch, unless no batch would be left.

    Args:
        sampler: Draws an epoch's samples.
        batch_size: The samples of one optimizer step, over all its micro-batches and processes.

    Returns:
        The sampler itself where nothing is left out, or where it does not know its length. A random one stays a
        `RandomSampler`, which Accelerate seeds.
    """
    length = len(sampler) if isinstance(sampler, Sized) else 0
    count = length // batch_size * batch_size
    if count in (0, length):
        return sampler
    if isinstance(sampler, RandomSampler) and not sampler.replacement:
        return RandomSampler(sampler.data_source, num_samples=count, generator=sampler.generator)
    return FirstSamples(sampler, count)
