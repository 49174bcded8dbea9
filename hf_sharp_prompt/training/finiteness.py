"""Notices numbers that are not finite, so that training stops and does not save them."""

from __future__ import annotations

import torch

from ..sharpness import SharpnessAware


MAX_STEPS_SKIPPED = 50
"""Steps in a row after which a loss scaler would have found its scale; float16 has 40 powers of two."""


class FinitenessCheck:
    """Notices in which step training stopped being finite, without waiting for the device in each of them.

    Args:
        sharpness: What computes the directions.
    """

    def __init__(self, sharpness: SharpnessAware) -> None:
        self.sharpness = sharpness
        self.steps_skipped = 0  # by the loss scaler, the last ones in a row
        never = torch.full((), torch.inf, device=sharpness.parameters.device)
        self._first = {"loss": never, "gradient": never.clone()}  # the first step in which each was not finite

    def see_step(self, step: int, loss: torch.Tensor) -> None:
        """Remember what is not finite in a step, counted from 1."""
        for name, finite in (("loss", loss.isfinite()), ("gradient", self.sharpness.finite)):
            first = self._first[name]
            self._first[name] = torch.where(finite.to(first.device), first, first.clamp(max=step))

    def see_update(self, skipped: bool) -> None:
        """Count the steps that the loss scaler skipped."""
        self.steps_skipped = self.steps_skipped + 1 if skipped else 0

    def check(self, step: int, kept: str) -> None:
        """Raise if the parameters, or without a loss scaler the loss or gradient, are not finite.

        Args:
            step: The steps taken.
            kept: A sentence that says what is kept of the run.

        Raises:
            FloatingPointError: They are not; the first step and what was not finite in it are named.
        """
        if self.steps_skipped >= MAX_STEPS_SKIPPED:
            what = f"the loss scaler has skipped {self.steps_skipped} steps in a row: no gradient is finite in float16"
            raise FloatingPointError(_stopped(step, what, f"{kept} Train with bf16=True or in float32."))
        found = {name: int(first) for name, first in self._first.items() if bool(first.isfinite())}
        parameters = bool(self.sharpness.parameters.read().isfinite().all())
        if parameters and (not found or self.sharpness.scales_loss):  # a step that the scaler skipped is normal
            return
        first = min(found.values(), default=step)
        names = [name for name, at in found.items() if at == first] or ["parameters"]
        what = f"the {' and the '.join(names)} {'is' if names in (['loss'], ['gradient']) else 'are'} NaN or infinite"
        advice = "Lower the learning rate or rho, or look for values that are not finite in the data of this step."
        raise FloatingPointError(_stopped(first, what, f"{kept} {advice}"))


def _stopped(step: int, what: str, advice: str) -> str:
    return f"Training stopped, since at step {step} {what}. {advice}"
