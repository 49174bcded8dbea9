"""What is minimised: terms that are added to the model's own loss. Independent of which gradient is followed."""

# Importing a module of objectives registers them.
from . import agreement, novel, trajectory
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
    "names",
    "novel",
    "trajectory",
]
