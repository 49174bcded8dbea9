"""Many runs at once: who goes on, and when what they ask for is computed for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..tuners.shared_prefix import affordable_memory, encode_shared_prefix
from ..tuners.text_passes import TextPasses, text_passes, using_text_passes
from ..tuners.text_tower import TextModel
from .stacked import Encoding, Stack, stack_or_each
from .turns import ProcessState, Turns


T = TypeVar("T")


def seconds() -> float:
    """Return the clock of the run that asks: of its own time, and its share of what is computed for several.

    Outside of a session it is `time.perf_counter()`.
    """
    member = _current()
    return perf_counter() if member is None else member.seconds()


def name_of_run() -> str | None:
    """Return the name of the run that asks; None outside of a session."""
    member = _current()
    return None if member is None else member.name


def check_not_stopped() -> None:
    """End the run that asks, if it is to end.

    Raises:
        KeyboardInterrupt: It is.
    """
    if (member := _current()) is not None:
        member.turns.check()


def _current() -> Member[Any] | None:
    passes = text_passes()
    return passes if isinstance(passes, Member) else None


@dataclass(eq=False)
class Gradients:
    """What a run asks for at the end of a backward pass: the gradients to the contexts of its encodings.

    Args:
        encodings: The encodings that the loss depends on; their features have gradients.

    Attributes:
        found: The gradients of those that have been computed.
    """

    encodings: Sequence[Encoding]

    def __post_init__(self) -> None:
        self.found: dict[Encoding, list[torch.Tensor]] = {}


class Member(TextPasses, Generic[T]):
    """A run among others: it pauses when it needs the text tower, until the passes of all that need it are computed.

    Args:
        function: The run.
        name: What it is called.
        state: The state of the process that it begins with.

    Attributes:
        turns: The run as a function that takes turns.
        asked: What it waits for; None if it can go on.
        error: Why what it asked for could not be computed.
    """

    def __init__(self, function: Callable[[], T], name: str, state: ProcessState) -> None:
        self.name = name
        self.turns = Turns(lambda: self._run(function), name, state)
        self.asked: Encoding | Gradients | None = None
        self.error: Exception | None = None
        self._open: list[Encoding] | None = None
        self._weights: WeakKeyDictionary[TextModel, tuple[int, ...] | None] = WeakKeyDictionary()
        self._seconds, self._since = 0.0, 0.0

    def _run(self, function: Callable[[], T]) -> T:
        with using_text_passes(self):
            return function()

    def go_on(self) -> None:
        """Let the run go on until it asks for something or ends."""
        self._since = perf_counter()
        self.turns.go_on()
        self.add_seconds(perf_counter() - self._since)

    def answer(self, error: Exception | None, seconds: float = 0.0) -> None:
        """Let the run go on with what it asked for, or with the error that kept it from being computed.

        Args:
            error: The error, if there was one.
            seconds: The run's share of what was computed for several.
        """
        self.asked, self.error = None, error
        self.add_seconds(seconds)

    def add_seconds(self, seconds: float) -> None:
        """Count the run's share of what was computed for several."""
        self._seconds += seconds

    def seconds(self) -> float:
        """Return what the run has taken so far: its own time, and its share of what was computed for several."""
        return self._seconds + perf_counter() - self._since

    def encode(
        self,
        tower: TextModel,
        prefix: torch.Tensor,
        texts: Sequence[Sequence[int]],
        deep: torch.Tensor | None = None,
        class_chunk_size: int | None = None,
    ) -> torch.Tensor:
        weights = self._find_weights(tower)
        if weights is None or class_chunk_size is not None or prefix.dim() > 2:
            return encode_shared_prefix(tower, prefix, texts, deep, class_chunk_size)
        encoding = Encoding(tower, weights, prefix, texts, deep, holds_others=bool(self._open))
        if encoding.needs_gradient and self._open is None:  # Nobody says when its backward pass ends.
            return encode_shared_prefix(tower, prefix, texts, deep)
        self._wait_for(encoding)
        if encoding.needs_gradient and self._open is not None:
            self._open.append(encoding)
        return encoding.features

    @contextmanager
    def backward_pass(self) -> Iterator[None]:
        # The block's `backward` ends at the features. On an accelerator the threads of autograd are the same for all
        # runs, so that none may wait there for the others.
        opened: list[Encoding] = []
        self._open = opened
        try:
            yield
            self._finish(opened)
        finally:
            self._open = None
            for encoding in opened:
                encoding.leave()

    def _finish(self, opened: Sequence[Encoding]) -> None:
        """Take the gradients from the features to the parameters."""
        for encoding in opened:
            if encoding.features.grad is None:
                encoding.leave()
        gradients = Gradients([each for each in opened if each.features.grad is not None])
        if not gradients.encodings:
            return
        self._wait_for(gradients)
        for encoding in gradients.encodings:
            pairs = zip(encoding.contexts, gradients.found[encoding], strict=True)
            learned, found = zip(*((context, gradient) for context, gradient in pairs if context.requires_grad))
            torch.autograd.backward(learned, found)

    def outcome(self) -> T | Exception:
        """Return what the run returned, or the `Exception` in which it ended; raise what else it raised."""
        error = self.turns.error
        if error is None:
            return self.turns.result
        if isinstance(error, Exception):
            return error
        raise error

    def _wait_for(self, asked: Encoding | Gradients) -> None:
        self.asked, self.error = asked, None
        self.turns.pause()
        if self.error is not None:
            raise self.error

    def _find_weights(self, tower: TextModel) -> tuple[int, ...] | None:
        """Return what tells whether another tower computes the same; None if the tower itself is to be trained."""
        if tower not in self._weights:
            embeddings = tower.embeddings
            parts: list[nn.Module] = [embeddings.token_embedding, embeddings.position_embedding]
            parts += [*tower.encoder.layers, tower.final_layer_norm]
            parameters = [parameter for part in parts for parameter in part.parameters()]
            is_random = bool(getattr(tower.config, "attention_dropout", 0))
            trains = any(each.requires_grad for each in parameters)
            pointers = tuple(each.data_ptr() for each in parameters)
            self._weights[tower] = None if is_random or trains else pointers
        return self._weights[tower]


class Session(Generic[T]):
    """Runs functions, and computes for all at once what they encode in text towers of the same weights.

    Each function sees the random numbers and the state of Accelerate that it would see alone, from the same beginning.
    It runs in a thread of its own, but only one of the threads runs at a time.

    Args:
        functions: The functions by name. They may train, evaluate, and fail.
        memory: The bytes that passes may hold until their backward passes; by default half of the free ones.

    Example:
        ```py
        >>> for name, outcome in Session({"a": train_a, "b": train_b}).run():
        ...     print(name, outcome)
        ```
    """

    def __init__(self, functions: Mapping[str, Callable[[], T]], memory: float | None = None) -> None:
        self._beginning = ProcessState.capture()
        self._members = [Member(function, name, self._beginning) for name, function in functions.items()]
        self._memory, self._budget = memory, 0.0
        self._stacks: list[Stack] = []

    def run(self) -> Generator[tuple[str, T | Exception]]:
        """Run all functions; yield the name of each that has ended, and what it returned or raised.

        Raises:
            BaseException: A function ended in what is no `Exception`, or the main thread was interrupted; the others
                are ended with a KeyboardInterrupt then.
        """
        living = list(self._members)
        try:
            while living:
                for member in living:
                    if member.asked is None:
                        member.go_on()
                ended = [member for member in living if member.turns.is_over]
                living = [member for member in living if not member.turns.is_over]
                for member in ended:
                    self._restore_beginning()
                    yield member.name, member.outcome()
                if living:
                    self._answer(living)
        finally:
            for member in living:
                member.turns.stop()
            self._restore_beginning()

    def _restore_beginning(self) -> None:
        self._beginning.random.restore()
        # Else the Trainers that the functions made need what is there.
        if self._beginning.accelerate.is_complete:
            self._beginning.accelerate.restore()

    def _answer(self, members: Sequence[Member[T]]) -> None:
        """Compute what lets at least one of the runs go on, all of which wait."""
        encodings = {each.asked: each for each in members if isinstance(each.asked, Encoding)}
        gradients = {each.asked: each for each in members if isinstance(each.asked, Gradients)}
        due = {encoding for each in gradients for encoding in each.encodings}
        self._stacks = [stack for stack in self._stacks if stack.awaited]
        ready = [stack for stack in self._stacks if stack.awaited <= due]
        chosen = self._choose(list(encodings), must=not ready)
        by_kind: dict[Any, list[Encoding]] = defaultdict(list)
        for encoding in chosen:
            by_kind[encoding.kind].append(encoding)
        for same in by_kind.values():
            self._encode(same, encodings)
        if not chosen:
            for stack in ready:
                self._compute_gradients(stack, gradients)

    def _choose(self, encodings: Sequence[Encoding], must: bool) -> list[Encoding]:
        """Return those whose passes are due: as many as memory allows for, the first ones first.

        Features that nobody trains on are computed before others, so that a run that has evaluated can join the rest.

        Args:
            encodings: The encodings that are asked for.
            must: True if nothing else is due, so that one has to be chosen.
        """
        looking = [each for each in encodings if not each.needs_gradient]
        candidates = looking or sorted(encodings, key=lambda each: not each.holds_others)
        if not candidates:
            return []
        if not self._stacks:
            self._budget = self._memory or affordable_memory(candidates[0].prefix.device)
        free = self._budget - sum(stack.memory for stack in self._stacks)
        chosen: list[Encoding] = []
        for encoding in candidates:
            free -= encoding.memory
            if free < 0 and (chosen or not must):
                break
            chosen.append(encoding)
        return chosen

    def _encode(self, encodings: Sequence[Encoding], asking: Mapping[Encoding, Member[T]]) -> None:
        """Compute the features of encodings of one kind, and tell the runs that ask for them."""
        started = perf_counter()
        stacks, failures = stack_or_each(encodings)
        self._stacks += [each for each in stacks if each.awaited]
        share = (perf_counter() - started) / len(encodings)
        for encoding in encodings:
            asking[encoding].answer(failures.get(encoding), share)

    def _compute_gradients(self, stack: Stack, asking: Mapping[Gradients, Member[T]]) -> None:
        """Run the backward pass of a stack, and tell the runs that ask for nothing else."""
        started = perf_counter()
        found, failures = stack.gradients_or_each()
        share = (perf_counter() - started) / len(found | failures)
        for encoding in found | failures:
            encoding.leave()
        for gradients, member in asking.items():
            for encoding in gradients.encodings:
                if encoding in failures:
                    member.answer(failures[encoding], share)
                elif encoding in found:
                    member.add_seconds(share)
                    gradients.found[encoding] = found[encoding]
            if len(gradients.found) == len(gradients.encodings):
                member.answer(None)
