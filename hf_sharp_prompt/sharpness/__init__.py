"""Which gradient is followed, and how sharp is what it led to: independent of models and training loops."""

from . import rules
from .measure.landscape import Landscape, landscape
from .measure.report import Neighbourhood, SharpnessReport, report
from .rule import Gradient, SharpnessRule, create, hyperparameter, names
from .step.constraint import Constraint
from .step.gradients import Backward
from .step.sharpness_aware import SharpnessAware
from .vectors import reject, unit


__all__ = [
    "Backward",
    "Constraint",
    "Gradient",
    "Landscape",
    "Neighbourhood",
    "SharpnessAware",
    "SharpnessReport",
    "SharpnessRule",
    "create",
    "hyperparameter",
    "landscape",
    "names",
    "reject",
    "report",
    "rules",
    "unit",
]
