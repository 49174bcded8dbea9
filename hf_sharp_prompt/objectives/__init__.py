"""What is minimised: terms that are added to the model's own loss. Independent of which gradient is followed."""

# Importing a module of objectives registers them.
from . import trajectory
from .batch import Batch
from .objective import Objective, create, names
from .sum import ObjectiveSum


__all__ = ["Batch", "Objective", "ObjectiveSum", "create", "names", "trajectory"]
