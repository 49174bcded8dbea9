"""What is minimised: losses for long tails, and terms that are added to the loss.

Objectives do not depend on the gradient that is followed. Each has a file that is named as it is chosen. Importing
this package registers all of them.
"""

from ..hyperparameters import hyperparameter
from . import kgcoop, long_tail, mesa, nfl, prograd, promptsrc, saf
from .batch import Batch
from .long_tail import LongTailLoss
from .objective import ConstrainingObjective, Objective, create, names, sharpness_aware_names
from .sum import ObjectiveSum


__all__ = [
    "Batch",
    "ConstrainingObjective",
    "LongTailLoss",
    "Objective",
    "ObjectiveSum",
    "create",
    "hyperparameter",
    "long_tail",
    "names",
    "sharpness_aware_names",
]
