"""All rules, each with what it needs, for tests of what holds for every one."""

import re

from hf_sharp_prompt.sharpness import SharpnessRule, create, names


NEEDED = {"imbsam": {"tail_classes": [2]}, "focalsam": {"class_counts": [9, 7, 1, 4, 3]}}
NEEDS_LABELS = {"imbsam", "focalsam"}
REMEMBERS = {"fsam", "sample", "looksam", "graphsam", "extragradient"}
DRAWS = {"gnm", "rwp"}


def make_rule(name: str, **hyperparameters: float) -> SharpnessRule:
    """A rule with its defaults, and with what it cannot do without."""
    return create(name, **(NEEDED.get(name, {}) | hyperparameters))


def hyperparameters(name: str) -> set[str]:
    return set(SharpnessRule.registry[name].__dataclass_fields__)


def scaled(name: str, factor: float, *which: str) -> SharpnessRule:
    """A rule with those of the named hyperparameters that it has multiplied by a factor."""
    defaults = make_rule(name)
    return make_rule(name, **{each: factor * getattr(defaults, each) for each in which if hasattr(defaults, each)})


def promised_cost(name: str, k: int, steps_per_epoch: int) -> float:
    """Gradient evaluations per step as the rule's docstring has them."""
    cost = re.search(r"Cost:\n\s+(.+?) gradient evaluations? per step", SharpnessRule.registry[name].__doc__)[1]
    whole, _, part = cost.partition(" + 1/")
    return int(whole) + (1 / {"k": k, "(steps per epoch)": steps_per_epoch}[part] if part else 0)


__all__ = [
    "DRAWS",
    "NEEDED",
    "NEEDS_LABELS",
    "REMEMBERS",
    "hyperparameters",
    "make_rule",
    "names",
    "promised_cost",
    "scaled",
]
