from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_avg_fn

from ..hyperparameters import hyperparameter
from ..sharpness.vectors import flatten
from .batch import Batch, logits_of
from .distances import divergence
from .evaluation_mode import evaluation_mode
from .objective import Objective
from .parameters import split_by_name, trained_parameters


@dataclass
class MESA(Objective, name="mesa"):
    """Memory-efficient sharpness-aware training: predictions stay close to those of the weights' running mean.

    `L + λ·T²·KL(softmax(z̄/T) ‖ softmax(z/T))`, `z` the logits of a sample, `z̄` its logits with the running mean of
    the weights, `w̄ ← decay·w̄ + (1-decay)·w` after each step. The step follows the gradient of this loss.

    The running mean predicts in evaluation mode, without dropout.

    Args:
        weight: λ, the weight of the term (paper: 0.8; the released script: 0.3).
        temperature: T, which softens both distributions (paper: 5).
        decay: The decay of the running mean (paper: 0.9995; the released script: 0.9998).
        start: The first epoch, from 0, in which the term counts, a whole number (paper: after epoch 5, which the
            released script counts from 0).

    Cost:
        1 gradient evaluation per step, one more forward pass, and a vector of state.

    When:
        As `saf`, for data sets whose logits take too much memory, or with strong augmentation.

    Reference:
        Du et al., "Sharpness-Aware Training for Free", NeurIPS 2022, https://arxiv.org/abs/2205.14083
    """

    is_sharpness_aware = True

    weight: float = hyperparameter(0.8, low=0, help="Weight of the term.")
    temperature: float = hyperparameter(5.0, above=0, help="Temperature of both distributions.")
    decay: float = hyperparameter(0.9995, low=0, high=1, help="Decay of the running mean of the weights.")
    start: int = hyperparameter(6, low=0, help="First epoch, from 0, in which the term counts.")

    def begin_step(self, model: nn.Module) -> None:
        self._mean = self.state["mean"] if self.state else flatten(trained_parameters(model).values())

    def term(self, batch: Batch) -> torch.Tensor:
        if self.epoch < self.start:
            return batch.logits.new_zeros(())
        mean = split_by_name(self._mean, trained_parameters(batch.model))
        with torch.no_grad(), evaluation_mode(batch.model):
            past = logits_of(functional_call(batch.model, mean, kwargs=dict(batch.inputs)))
        return self.weight * batch.mean(divergence(past, batch.logits, self.temperature))

    def end_step(self, model: nn.Module, accelerator: Accelerator | None = None) -> None:
        # The average as `AveragedModel` takes it. The class itself would copy the whole frozen base model, too.
        update = get_ema_avg_fn(self.decay)
        weights = flatten(trained_parameters(model).values())
        self.state = {"mean": update(self._mean.to(weights), weights, 0)}
