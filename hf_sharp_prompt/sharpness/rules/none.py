from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule


@dataclass
class ERM(SharpnessRule, name="none"):
    """No sharpness: empirical risk minimisation.

    `d = g`

    Cost:
        1 gradient evaluation per step.

    When:
        The baseline.
    """

    def direction(self, gradient: Gradient) -> torch.Tensor:
        return gradient()
