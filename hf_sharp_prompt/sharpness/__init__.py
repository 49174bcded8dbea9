"""Which gradient is followed: sharpness-aware directions, independent of models and training loops."""

# Importing a module of rules registers them.
from . import combined, momentum, noise, sam, tail
from .aware import SharpnessAware
from .rule import SharpnessRule, create, names


__all__ = ["SharpnessAware", "SharpnessRule", "combined", "create", "momentum", "names", "noise", "sam", "tail"]
