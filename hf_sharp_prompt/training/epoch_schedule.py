"""Learning rates that change where an epoch begins, as in Dassl and the code of the papers that use it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


EPOCH_SCHEDULES = ("none", "cosine")


class EpochCosine(LRScheduler):
    """Cosine annealing from epoch to epoch, that begins after the first epoch.

    With E epochs, counted from 0, and the learning rate `lr` of each parameter group:

        lr(0) = first_epoch_learning_rate, or lr where that is None
        lr(e) = lr · (1 + cos(π · (e - 1) / E)) / 2    for e ≥ 1

    Dassl gets there with a constant warm-up of one epoch in front of torch's `CosineAnnealingLR`, which starts only
    then and is not shortened: its last epoch still trains. `set_epoch` sets the learning rate; `step`, which the
    Trainer calls after each optimizer step, leaves it as it is.

    Args:
        optimizer: The optimizer.
        epochs: E, the number of epochs of the run.
        first_epoch_learning_rate: The learning rate of epoch 0, of all groups (Dassl's `WARMUP_CONS_LR`: 1e-5).

    Reference:
        `ConstantWarmupScheduler` and `build_lr_scheduler` in
        https://github.com/KaiyangZhou/Dassl.pytorch/blob/master/dassl/optim/lr_scheduler.py
    """

    def __init__(self, optimizer: Optimizer, epochs: float, first_epoch_learning_rate: float | None = None) -> None:
        self.epochs = epochs
        self.first_epoch_learning_rate = first_epoch_learning_rate
        self.epoch = 0
        super().__init__(optimizer)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch.

        Args:
            epoch: The epoch, from 0.
        """
        self.epoch = epoch
        self._last_lr = self.get_lr()
        for group, learning_rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = learning_rate

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rates of this epoch, one for each parameter group."""
        if self.epoch > 0:
            return [lr * (1 + math.cos(math.pi * (self.epoch - 1) / self.epochs)) / 2 for lr in self.base_lrs]
        if self.first_epoch_learning_rate is None:
            return list(self.base_lrs)
        return [self.first_epoch_learning_rate for _ in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without what the run's arguments say, which may be changed for a resumed run."""
        arguments = ("epochs", "first_epoch_learning_rate")
        return {name: value for name, value in super().state_dict().items() if name not in arguments}
