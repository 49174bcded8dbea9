"""Passes through the text tower of several runs at once, whose contexts are stacked behind the same texts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ..tuners.shared_prefix import encode_shared_prefix, estimate_activations
from ..tuners.text_tower import TextModel


logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Encoding:
    """What a run asks for: features of texts behind its own context, and later their gradient to that context.

    Args:
        tower: The text tower.
        weights: What the tower computes with, as a value that towers of the same tensors have in common.
        prefix: As `encode_shared_prefix` takes it, (1 + n) × width.
        texts: As `encode_shared_prefix` takes them.
        deep: As `encode_shared_prefix` takes it, layers × n × width, or None.
        holds_others: True if the run waits for the gradients of other encodings, too, whose passes hold memory.

    Attributes:
        needs_gradient: True if the run will ask for the gradient.
        features: The texts' features once they are known, without the graph that leads to the context.
        stack: The pass that computed them, until its backward pass.
    """

    tower: TextModel
    weights: tuple[int, ...]
    prefix: torch.Tensor
    texts: Sequence[Sequence[int]]
    deep: torch.Tensor | None = None
    holds_others: bool = False
    features: torch.Tensor = field(init=False)
    needs_gradient: bool = field(init=False)
    stack: Stack | None = None

    def __post_init__(self) -> None:
        self.needs_gradient = torch.is_grad_enabled() and any(each.requires_grad for each in self.contexts)
        device = self.prefix.device.type
        self._autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    @property
    def contexts(self) -> list[torch.Tensor]:
        """What the run learns, as the tower sees it: the prefix, and what stands in deeper layers, if anything."""
        return [self.prefix] if self.deep is None else [self.prefix, self.deep]

    @cached_property
    def kind(self) -> tuple[Any, ...]:
        """What encodings have in common that can be stacked."""
        shapes = tuple((each.shape, each.dtype, each.device) for each in self.contexts)
        layers = self.tower.encoder.layers
        checkpointing = any(layer.gradient_checkpointing and layer.training for layer in layers)
        texts = tuple(map(tuple, self.texts))
        return self.weights, shapes, texts, self.needs_gradient, self._autocast, checkpointing

    @cached_property
    def memory(self) -> int:
        """The bytes that its pass holds; with a gradient, until the backward pass."""
        with torch.set_grad_enabled(self.needs_gradient):
            return estimate_activations(self.tower, self.prefix.unsqueeze(0), self.texts)

    @contextmanager
    def as_when_asked(self) -> Iterator[None]:
        """Within the block gradients and autocast are as they were where the run asked."""
        enabled, dtype = self._autocast
        with torch.set_grad_enabled(self.needs_gradient), torch.autocast(self.prefix.device.type, dtype, enabled):
            yield

    def leave(self) -> None:
        """Do without the gradient: the run has failed, or its loss does not depend on these features."""
        if self.stack is not None:
            self.stack.awaited.discard(self)
            self.stack = None


class Stack:
    """One pass through the tower for encodings of the same kind.

    Args:
        encodings: The encodings.

    Attributes:
        awaited: The encodings that may still ask for their gradient.
        memory: The bytes that it holds.
    """

    def __init__(self, encodings: Sequence[Encoding]) -> None:
        first = encodings[0]
        self._encodings = list(encodings)
        self.awaited = set(encodings) if first.needs_gradient else set()
        self.memory = sum(each.memory for each in encodings)
        # Prefixes are stacked in front, deeper tokens behind their layers.
        parts = zip(*(each.contexts for each in encodings), strict=True)
        stacked = [torch.stack([each.detach() for each in part], dim) for dim, part in enumerate(parts)]
        self._contexts = [each.requires_grad_(first.needs_gradient) for each in stacked]
        prefixes, *deeper = self._contexts
        deep = deeper[0] if deeper else None
        with first.as_when_asked():
            prompts = len(encodings) * len(first.texts)  # in one chunk
            self._features = encode_shared_prefix(first.tower, prefixes, first.texts, deep, prompts)
        for encoding, features in zip(encodings, self._features.detach()):
            encoding.features = features.clone().requires_grad_(first.needs_gradient)
            encoding.stack = self if first.needs_gradient else None

    def compute_gradients(self) -> dict[Encoding, list[torch.Tensor]]:
        """Run the backward pass; return the gradients to the contexts of those that have not left."""
        if not self.awaited:
            return {}
        gradients = [each.features.grad if each in self.awaited else None for each in self._encodings]
        rows = [torch.zeros_like(self._features[0]) if each is None else each for each in gradients]
        found = torch.autograd.grad(self._features, self._contexts, torch.stack(rows))
        by_run = zip(*(each.unbind(dim) for dim, each in enumerate(found)))
        return {each: list(parts) for each, parts in zip(self._encodings, by_run) if each in self.awaited}

    def gradients_or_each(self) -> tuple[dict[Encoding, list[torch.Tensor]], dict[Encoding, Exception]]:
        """As `compute_gradients`; one after the other where that fails for all at once.

        Returns:
            The gradients, and of encodings for which that failed the errors.
        """
        awaited = list(self.awaited)
        try:
            return self.compute_gradients(), {}
        except Exception as error:
            failure = error.with_traceback(None)  # It would hold tensors.
        del self._features
        if len(awaited) == 1:
            return {}, {awaited[0]: failure}
        report_failure(awaited, failure)
        found: dict[Encoding, list[torch.Tensor]] = {}
        failures: dict[Encoding, Exception] = {}
        for encoding in awaited:
            gradient = encoding.features.grad
            stacks, failed = stack_or_each([encoding])
            if failed:
                failures |= failed
                continue
            encoding.features.grad = gradient
            more, failed = stacks[0].gradients_or_each()
            found |= more
            failures |= failed
        return found, failures


def stack_or_each(encodings: Sequence[Encoding]) -> tuple[list[Stack], dict[Encoding, Exception]]:
    """Encode in one pass; one after the other where that fails for all at once.

    Returns:
        The passes, and of encodings for which that failed the errors.
    """
    try:
        return [Stack(encodings)], {}
    except Exception as error:
        failure = error.with_traceback(None)  # It would hold tensors.
    if len(encodings) == 1:
        return [], {encodings[0]: failure}
    report_failure(encodings, failure)
    stacks: list[Stack] = []
    failures: dict[Encoding, Exception] = {}
    for encoding in encodings:
        more, failed = stack_or_each([encoding])
        stacks += more
        failures |= failed
    return stacks, failures


def report_failure(encodings: Sequence[Encoding], failure: Exception) -> None:
    """Say that what is computed for many had to be computed one after the other."""
    logger.warning(
        f"The text tower's pass for {len(encodings)} runs at once failed ({' '.join(str(failure).split())}); it is "
        "run for one after the other."
    )
