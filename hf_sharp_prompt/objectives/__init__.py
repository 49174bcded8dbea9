"""What is minimised: losses for long tails, and terms that are added to the loss. Independent of which gradient is
followed.
"""

# Importing a module of objectives registers them.
from . import agreement, long_tail, novel, trajectory
from .batch import Batch
from .objective import ConstrainingObjective, Objective, create, names
from .sum import ObjectiveSum


__all__ = [
    "Batch",
    "ConstrainingObjective",
    "Objective",
    "ObjectiveSum",
    "agreement",
    "create",
    "long_tail",
    "names",
    "novel",
    "trajectory",
]
