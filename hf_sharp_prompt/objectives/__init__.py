"""What is minimised: losses for long tails, and terms that are added to the loss. Independent of which gradient is
followed. One file per objective, each named as it is chosen; importing this package registers all of them.
"""

from . import kgcoop, long_tail, mesa, nfl, prograd, promptsrc, saf
from .batch import Batch
from .objective import ConstrainingObjective, Objective, create, names
from .sum import ObjectiveSum


__all__ = [
    "Batch",
    "ConstrainingObjective",
    "Objective",
    "ObjectiveSum",
    "create",
    "long_tail",
    "names",
]
