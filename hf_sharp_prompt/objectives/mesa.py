from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from ..hyperparameters import hyperparameter
from .batch import Batch, logits_of
from .distances import divergence
from .evaluation_mode import evaluation_mode
from .objective import Objective
from .parameters import flatten, trainable


@dataclass
class MESA(Objective, name="mesa"):
    """Memory-efficient sharpness-aware training: what the model says stays close to what its running mean says.

    `L + λ·T²·KL(softmax(z̄/T) ‖ softmax(z/T))`, `z` a sample's logits, `z̄` those of the running mean of the weights,
    `w̄ ← decay·w̄ + (1-decay)·w` after each step; followed is its gradient.

    The running mean predicts in evaluation mode, without dropout.

    Args:
        lmbda: λ, the weight of the term (paper: 0.8; the released script: 0.3).
        temperature: T, which softens both (paper: 5).
        decay: Of the running mean (paper: 0.9995; the released script: 0.9998).
        start: The first epoch, from 0, in which the term counts, a whole number (paper: after epoch 5, which the
            released script counts from 0).

    Cost:
        1 gradient evaluation per step, a forward pass besides, and a vector of state.

    When:
        As `saf`, for data sets too large to remember logits of, or augmented strongly.

    Reference:
        Du et al., "Sharpness-Aware Training for Free", NeurIPS 2022, https://arxiv.org/abs/2205.14083
    """

    lmbda: float = hyperparameter(0.8, low=0, help="Weight of the term.")
    temperature: float = hyperparameter(5.0, above=0, help="Temperature of both distributions.")
    decay: float = hyperparameter(0.9995, low=0, high=1, help="Decay of the running mean of the weights.")
    start: int = hyperparameter(6, low=0, help="First epoch, from 0, in which the term counts.")

    def begin_step(self, model: nn.Module) -> None:
        self._mean = self.state["mean"] if self.state else flatten(trainable(model))

    def term(self, batch: Batch) -> torch.Tensor:
        if self.epoch < self.start:
            return batch.logits.new_zeros(())
        with torch.no_grad(), evaluation_mode(batch.model), _weights_replaced(batch.model, self._mean):
            past = logits_of(batch.model(**batch.inputs))
        return self.lmbda * batch.mean(divergence(past, batch.logits, self.temperature))

    def end_step(self, model: nn.Module, accelerator: Accelerator | None = None) -> None:
        w = flatten(trainable(model))
        self.state = {"mean": self.decay * self._mean.to(w) + (1 - self.decay) * w}


@contextmanager
def _weights_replaced(model: nn.Module, flat: torch.Tensor) -> Iterator[None]:
    """Other trainable weights within the block.

    The tensors are exchanged, not overwritten: a graph that is waiting for its backward pass stays valid, and the bits
    come back however the block ends.
    """
    parameters = trainable(model)
    here = [parameter.data for parameter in parameters]
    parts = flat.to(here[0].device).split([tensor.numel() for tensor in here])
    try:
        for parameter, tensor, part in zip(parameters, here, parts, strict=True):
            parameter.data = part.view_as(tensor).to(tensor.dtype)
        torch.clear_autocast_cache()  # which, in a loop's own autocast, would hold the weights as they were
        yield
    finally:
        for parameter, tensor in zip(parameters, here, strict=True):
            parameter.data = tensor
        torch.clear_autocast_cache()
