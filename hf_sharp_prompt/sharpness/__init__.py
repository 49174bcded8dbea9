"""Which gradient is followed, and how sharp is what it led to: independent of models and training loops."""

# Importing a module of rules registers them.
from . import combined, momentum, noise, sam, tail
from .aware import SharpnessAware
from .landscape import Landscape, landscape
from .parts import Constraint
from .report import Neighbourhood, SharpnessReport, report
from .rule import SharpnessRule, create, names


__all__ = [
    "Constraint",
    "Landscape",
    "Neighbourhood",
    "SharpnessAware",
    "SharpnessReport",
    "SharpnessRule",
    "combined",
    "create",
    "landscape",
    "momentum",
    "names",
    "noise",
    "report",
    "sam",
    "tail",
]
