"""Run examples through a model by all processes together, and get the answers in the examples' order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset

from ..printable import printable


FEW = 256
"""As many images as are read sooner than worker processes start."""

Read = TypeVar("Read")
Answer = TypeVar("Answer", covariant=True)


class Answers(Protocol[Read, Answer]):
    """What is asked: `read` reads an example, in a worker process perhaps, and `answer` answers what was read."""

    def keeping_class_features(self) -> AbstractContextManager[None]: ...

    @property
    def read(self) -> Callable[[Any], Read]: ...

    def answer(self, batch: Sequence[Read], /) -> Sequence[Answer]: ...


@dataclass(frozen=True)
class Unread:
    """An example that cannot be read, and a sentence that says why."""

    reason: str


def answers_in_order(
    asked: Answers[Read, Answer], examples: Sequence[Any], batch_size: int, num_workers: int | None = None
) -> Iterator[Answer | Unread]:
    """Answer examples batch by batch, holding no more than a few batches.

    The processes take turns with the batches, and every process gets all answers.

    Args:
        asked: What answers.
        examples: The examples, such as paths of images.
        batch_size: Examples answered at a time.
        num_workers: Processes that read examples. By default one for each core but one, at most 8; none for few.

    Yields:
        For each example in order the answer, or why it cannot be read.
    """
    state = PartialState()
    starts = range(0, len(examples), batch_size)
    own = starts[state.process_index :: state.num_processes]
    loader = DataLoader(
        ReadExamples(examples, asked.read),
        batch_sampler=[list(range(start, min(start + batch_size, len(examples)))) for start in own],
        collate_fn=as_it_is,
        num_workers=choose_num_workers(len(examples)) if num_workers is None else num_workers,
        generator=torch.Generator(),  # so that the global random numbers are not touched
    )
    with asked.keeping_class_features():
        batches = iter(loader)
        for _ in range(0, len(starts), state.num_processes):
            yield from gather_object(answer(asked, next(batches, [])))


class ReadExamples(Dataset[Any], Generic[Read]):
    """Examples as the model takes them, or why they cannot be read.

    Args:
        examples: The examples.
        read: What reads them.
    """

    def __init__(self, examples: Sequence[Any], read: Callable[[Any], Read]) -> None:
        self.examples, self.read = examples, read

    def __getitem__(self, index: int) -> Read | Unread:
        try:
            return self.read(self.examples[index])
        except (ValueError, OSError) as error:
            return Unread(printable(error))


def answer(asked: Answers[Any, Answer], batch: Sequence[Any]) -> list[Answer | Unread]:
    """Return the answers to what was read of a batch, and what there is to say of the others."""
    read = [each for each in batch if not isinstance(each, Unread)]
    found = iter(asked.answer(read) if read else ())
    return [each if isinstance(each, Unread) else next(found) for each in batch]


def choose_num_workers(count: int) -> int:
    """Choose how many processes read images: the process itself keeps a core."""
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return min(8, max(0, cores - 1)) if count > FEW else 0


def as_it_is(batch: list[Any]) -> list[Any]:
    """Collate nothing; a worker process needs a function with a name."""
    return batch
