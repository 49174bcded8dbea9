from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..rule import Gradient, SharpnessRule, hyperparameter
from ..vectors import unit


@dataclass
class FocalSAM(SharpnessRule, name="focalsam"):
    """Focal SAM: the sharpness of every class counts, and the more the rarer the class.

    With B the batch size and `c_i = λ·(1-π_i)^γ` the weight of class i, which has the share `π_i` of the training
    samples, `g_s(ε)` is the gradient of (Σ c_y·losses)/B at w + ε, and `g_r` that of (Σ (1-c_y)·losses)/B at w:

        d = g_r + g_s(ρ·u(g_s))

    This descends `L + λ·Σ_i (1-π_i)^γ·(L_i(w+ε) - L_i(w))`, with `L_i` the sum of class i's losses over B.

    Needs labels, and losses per sample. In the Trainer it takes the cross entropy of the logits, or `loss`, instead of
    the model's own loss.

    Args:
        rho: Perturbation radius (released scripts, for CLIP on CIFAR100-LT: 0.05).
        weight: λ, the weight of the sharpness (released scripts, likewise: 0.8).
        gamma: γ, how much more rare classes count than frequent ones (released scripts, likewise: 5.5; 0.2 to 5.5 on
            other data sets). With 0 all classes count alike.
        class_counts: The training samples of each class, by label.

    Cost:
        3 gradient evaluations per step.

    When:
        Long tails, where frequent classes' sharpness matters, too.

    Reference:
        Li et al., "Focal-SAM: Focal Sharpness-Aware Minimization for Long-Tailed Classification", ICML 2025,
        https://arxiv.org/abs/2505.01660; that `L_i` is a share of the batch, and no mean, is the released code's.
    """

    tells_classes_apart = True
    weighs_classes = True

    rho: float = hyperparameter(0.05, low=0, help="Perturbation radius.")
    weight: float = hyperparameter(0.8, low=0, help="Weight of the sharpness.")
    gamma: float = hyperparameter(5.5, low=0, help="How much more rare classes count than frequent ones.")
    class_counts: Sequence[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.class_counts) or min(self.class_counts) < 0 or not sum(self.class_counts):
            raise ValueError(
                "focalsam: class_counts must be the number of training samples of each class, by label, e.g. "
                f"[500, 50, 5]; got {self.class_counts!r}."
            )

    def direction(self, gradient: Gradient) -> torch.Tensor:
        w = gradient.weights
        counts = torch.as_tensor(self.class_counts, dtype=torch.float64)
        c = self.weight * (1 - counts / counts.sum()) ** self.gamma
        c = c.to(w.device, torch.promote_types(w.dtype, torch.float32))

        def sharp(labels: torch.Tensor) -> torch.Tensor:
            if labels.device.type == "cpu":  # Elsewhere looking at them would wait for the device.
                self._check_have_counts(labels)
            return c[labels.clamp(min=0)]  # Ignored samples are labelled -100.

        g_r = gradient(sample_mask=lambda labels: 1 - sharp(labels))
        g_s = gradient(sample_mask=sharp)
        return g_r + gradient(offset=self.rho * unit(g_s), sample_mask=sharp)

    def _check_have_counts(self, labels: torch.Tensor) -> None:
        without = labels[labels >= len(self.class_counts)]
        if len(without):
            raise ValueError(
                f"focalsam: class_counts has {len(self.class_counts)} classes, and a sample has the label "
                f"{int(without[0])}; give one count for each class, by label."
            )
