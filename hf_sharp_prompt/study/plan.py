"""The study's plan: which settings, methods, tasks and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..experiments.manuals.shared import FAMILIAR_TASKS, UNFAMILIAR_TASKS
from ..experiments.recipes import RECIPES, read_recipe


PLAN_PATH = Path(__file__).with_name("plan.yaml")
SUITES = {"familiar": tuple(FAMILIAR_TASKS), "unfamiliar": tuple(UNFAMILIAR_TASKS)}
"""The suites of the demo, by the name that the study's tables have for them."""
REFERENCE = "coop"
"""The method that all others are compared with."""
LONG_TAIL_REFERENCE = "vpt"


@dataclass(frozen=True)
class Setting:
    """What all methods have in common.

    Args:
        shots: Training images of each class.
        num_text_tokens: Context tokens of the designs that learn CoOp's context.
        learning_rate: Learning rate of these designs.
        num_train_epochs: Epochs.
    """

    shots: int
    num_text_tokens: int
    learning_rate: float
    num_train_epochs: int

    @property
    def name(self) -> str:
        """The name of plain CoOp in this setting."""
        return f"coop_{self.num_text_tokens}tokens_lr{self.learning_rate:g}_{self.num_train_epochs}epochs"

    @property
    def context(self) -> dict[str, Any]:
        """A recipe's values in this setting, for a design that learns CoOp's context."""
        return {"num_text_tokens": self.num_text_tokens, "learning_rate": self.learning_rate, **self.length}

    @property
    def length(self) -> dict[str, Any]:
        """A recipe's values in this setting, for any design."""
        return {"num_train_epochs": self.num_train_epochs}


@dataclass(frozen=True)
class Method:
    """A method of the study.

    Args:
        recipe: The recipe's name.
        seeds: The number of seeds.
        design: `context`, or `own` for a design that keeps its own numbers of tokens and its own learning rate.
        hyperparameter: The method's own hyperparameter, as the path of a recipe's value; None if it has none.
        candidates: The values that it is chosen from.
        chosen: The value that was chosen.
        fixed: What else differs from the recipe's values, by the path of the value.
    """

    recipe: str
    seeds: int
    design: str = "context"
    hyperparameter: str | None = None
    candidates: Sequence[Any] = ()
    chosen: Any = None
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def learns_a_context(self) -> bool:
        """Whether it learns CoOp's context, so that its parameters can be compared with CoOp's."""
        return self.design == "context"

    def values(self, setting: Setting, value: Any) -> dict[str, Any]:
        """The values of the recipe with this value of the hyperparameter, in the setting."""
        changes = dict(self.fixed)
        if self.hyperparameter is not None:
            changes[self.hyperparameter] = value
        common = setting.context if self.learns_a_context else setting.length
        return recipe_with(self.recipe, RECIPES, {**common, **changes})


@dataclass(frozen=True)
class LongTailMethod:
    """A method on long tails.

    Args:
        recipe: The recipe's name.
        fixed: What differs from the recipe's values, by the path of the value.
    """

    recipe: str
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LongTail:
    """The study of long tails.

    Args:
        imbalance_factors: Training images of the most frequent class over those of the rarest.
        max_per_class: Training images of the most frequent class.
        seeds: The number of seeds.
        num_train_epochs: Epochs.
        methods: The methods by name.
    """

    imbalance_factors: Sequence[int]
    max_per_class: int
    seeds: int
    num_train_epochs: int
    methods: Mapping[str, LongTailMethod]

    def values(self, name: str) -> dict[str, Any]:
        """The values of a method's recipe."""
        method = self.methods[name]
        changes = {"num_train_epochs": self.num_train_epochs, **method.fixed}
        return recipe_with(method.recipe, RECIPES / "long_tail", changes)


@dataclass(frozen=True)
class Plan:
    """The plan.

    Args:
        settings: The settings that CoOp is tried in.
        max_epochs: The most epochs of a setting that may be chosen.
        setting: The setting that was chosen.
        setting_seeds: The seeds that it is tried with.
        hyperparameter_tasks: The tasks that hyperparameters are chosen on.
        hyperparameter_seeds: The seeds that they are chosen with.
        methods: The methods by name.
        long_tail: The study of long tails.
    """

    settings: Sequence[Setting]
    max_epochs: int
    setting: Setting
    setting_seeds: Sequence[int]
    hyperparameter_tasks: Sequence[str]
    hyperparameter_seeds: Sequence[int]
    methods: Mapping[str, Method]
    long_tail: LongTail


def read_plan(path: Path = PLAN_PATH) -> Plan:
    """Read a plan."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    setting, tuning, long_tail = content["setting"], content["hyperparameters"], content["long_tail"]
    return Plan(
        settings=[Setting(**candidate) for candidate in setting["candidates"]],
        max_epochs=setting["max_epochs"],
        setting=Setting(**setting["chosen"]),
        setting_seeds=setting["seeds"],
        hyperparameter_tasks=tuning["tasks"],
        hyperparameter_seeds=tuning["seeds"],
        methods={name: Method(name, **values) for name, values in content["methods"].items()},
        long_tail=LongTail(
            **{name: value for name, value in long_tail.items() if name != "methods"},
            methods={name: LongTailMethod(**values) for name, values in long_tail["methods"].items()},
        ),
    )


def recipe_with(name: str, directory: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe on the demo, with changes.

    Args:
        name: The recipe's name.
        directory: Where it is.
        changes: New values by their paths, such as `sharpness_args.rho`.
    """
    values = read_recipe(name, directory).resolve(on_demo=True)
    for path, value in changes.items():
        values = with_value(values, path.split("."), value)
    return values


def with_value(values: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested mappings in which the value at a path is another one."""
    first, *rest = path
    inner = with_value(values.get(first) or {}, rest, value) if rest else value
    return {**values, first: inner}
