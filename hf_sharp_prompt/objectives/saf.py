from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from ..hyperparameters import hyperparameter
from .batch import Batch
from .distances import divergence
from .objective import Objective


@dataclass
class SAF(Objective, name="saf"):
    """Sharpness-aware training for free: predictions of a sample stay close to those of some epochs ago.

    `L + λ·T²·KL(softmax(z_past/T) ‖ softmax(z/T))`, `z` the logits of a sample, `z_past` its logits E epochs ago. The
    step follows the gradient of this loss. A sample that was not seen E epochs ago adds nothing.

    It remembers samples × classes × E logits, in the CPU's memory and in each checkpoint, the same in every process:
    16 shots of ImageNet take 192 MB in float32. If a sample comes twice in an epoch, the first time counts.

    Args:
        weight: λ, the weight of the term (paper: 0.3; the released script: 0.16).
        temperature: T, which softens both distributions (paper: 5).
        epochs_ago: E, how many epochs to look back, a whole number (paper: 3).
        start: The first epoch, from 0, in which the term counts, a whole number (paper: after epoch 5, which the
            released script counts from 0).

    Cost:
        1 gradient evaluation per step, and logits of state.

    When:
        Runs of tens of epochs in which a second evaluation costs too much.

    Reference:
        Du et al., "Sharpness-Aware Training for Free", NeurIPS 2022, https://arxiv.org/abs/2205.14083
    """

    is_sharpness_aware = True
    needs_index = True

    weight: float = hyperparameter(0.3, low=0, help="Weight of the term.")
    temperature: float = hyperparameter(5.0, above=0, help="Temperature of both distributions.")
    epochs_ago: int = hyperparameter(3, low=1, help="How many epochs back to look.")
    start: int = hyperparameter(6, low=0, help="First epoch, from 0, in which the term counts.")

    def begin_step(self, model: nn.Module) -> None:
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def term(self, batch: Batch) -> torch.Tensor:
        if batch.index is None:
            raise ValueError("saf remembers each sample's logits: give the Batch its samples' index in the data set.")
        self._seen.append((batch.index[batch.counted], batch.logits.detach()[batch.counted]))
        if self.epoch < self.start or not self.state:
            return batch.logits.new_zeros(())
        past, known = self._recall(batch, batch.index)
        return self.weight * batch.mean(divergence(past, batch.logits, self.temperature) * known)

    def end_step(self, model: nn.Module, accelerator: Accelerator | None = None) -> None:
        if self.epoch < self.start - self.epochs_ago:  # No later epoch looks back to this one.
            return
        index, logits = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        if accelerator is not None and accelerator.num_processes > 1:
            index, logits = accelerator.gather(
                (
                    accelerator.pad_across_processes(index, pad_index=-1),
                    accelerator.pad_across_processes(logits),
                )
            )
        rows = {sample: row for row, sample in reversed(list(enumerate(index.tolist())))}  # The first time counts.
        rows.pop(-1, None)
        if rows:
            self._remember(torch.tensor(list(rows)), logits[list(rows.values())].cpu())

    def _recall(self, batch: Batch, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each sample's logits of E epochs ago, and whether it was seen then."""
        logits, epochs = self.state["logits"], self.state["epochs"]
        slot, index = self.epoch % self.epochs_ago, samples.cpu()
        inside = index < epochs.shape[1]
        index = index.where(inside, torch.zeros_like(index))
        known = inside & (epochs[slot, index] == self.epoch - self.epochs_ago)
        return logits[slot, index].to(batch.logits), known.to(batch.logits.device)

    def _remember(self, index: torch.Tensor, logits: torch.Tensor) -> None:
        """Write logits over those of E epochs ago, which have been used."""
        held = self.state.get("epochs", torch.empty(self.epochs_ago, 0, dtype=torch.long))
        slot, new = self.epoch % self.epochs_ago, int(index.max()) + 1 - held.shape[1]
        if new > 0:
            shape = (self.epochs_ago, new, logits.shape[1])
            parts = [self.state["logits"]] if self.state else []
            self.state = {
                "logits": torch.cat([*parts, logits.new_zeros(shape)], dim=1),
                "epochs": torch.cat([held, held.new_full(shape[:2], -1)], dim=1),
            }
        epochs = self.state["epochs"]
        first = epochs[slot, index] != self.epoch
        self.state["logits"][slot, index[first]] = logits[first]
        epochs[slot, index[first]] = self.epoch
