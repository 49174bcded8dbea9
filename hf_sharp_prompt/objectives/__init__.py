"""What is minimised: losses for long tails, and terms that are added to the loss.

Objectives do not depend on the gradient that is followed. Each has a file that is named as it is chosen. Importing
this package registers all of them.
"""

from . import kgcoop, long_tail, mesa, nfl, prograd, promptsrc, saf
from .batch import Batch
from .objective import ConstrainingObjective, Objective, create, names, sharpness_aware_names
from .sum import ObjectiveSum


__all__ = [
    "Batch",
    "ConstrainingObjective",
    "Objective",
    "ObjectiveSum",
    "create",
    "long_tail",
    "names",
    "sharpness_aware_names",
]
