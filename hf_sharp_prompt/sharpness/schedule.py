"""How the perturbation radius goes over a run."""

import math
from collections.abc import Callable


RHO_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda progress, learning_rate: 1.0,
    "linear": lambda progress, learning_rate: 1 - progress,
    "cosine": lambda progress, learning_rate: (1 + math.cos(math.pi * progress)) / 2,
    "learning_rate": lambda progress, learning_rate: learning_rate,
}
"""Name → factor of rho, from the share of the run that is over and the learning rate relative to its highest."""
