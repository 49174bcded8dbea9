"""Recipes: the published methods, each a YAML file that maps arguments to values.

A recipe may build on another and then says only what differs:

```yaml
# CoOp + ASAM: …
base: coop                # a recipe's name, or the path of a file, from this file's folder
sharpness: asam
demo:                     # values that hold on the embedded demo alone
  learning_rate: 0.01
```

- A value replaces the base's as a whole, also the one in the base's `demo`, so that what a recipe says always holds.
- A new choice says everything about it: `sharpness` drops the base's `sharpness_args`, and `loss` and
  `optim` likewise.
- `null` takes back what the base says, and `demo: null` the base's whole `demo`.

A sharpness rule, an objective or a loss on a recipe needs no file: `coop+asam` is `coop` with ASAM's default
hyperparameters, `coop+asam+kgcoop` adds an objective.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..hyperparameters import nearest


RECIPES = Path(__file__).parents[1] / "recipes"
"""The package's recipes: those of CLIP's prompts, and in folders those of other protocols."""

OWN = "own"
"""As `novel_class_names`: the names of the data set's own novel classes."""

REQUIRED = {"nfl": {"novel_class_names": OWN}}
"""What an objective that is added to a recipe by name needs besides its defaults."""


@dataclass(frozen=True)
class Recipe:
    """A method's arguments.

    Args:
        name: What the method is called in directories and tables.
        values: Values by argument.
        demo: Values that replace these on the embedded demo.
    """

    name: str
    values: Mapping[str, Any]
    demo: Mapping[str, Any]

    def resolve(self, on_demo: bool) -> dict[str, Any]:
        """Return the values by argument, with those for the demo if they apply."""
        return {**self.values, **(self.demo if on_demo else {})}


def list_recipes(directory: Path = RECIPES) -> list[str]:
    """The names of the recipes in a directory and in its folders, such as `coop` and `long_tail/ce`."""
    paths = sorted(directory.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    return [path.relative_to(directory).with_suffix("").as_posix() for path in paths]


def read_recipe(recipe: str, directory: Path = RECIPES, folder: Path = Path()) -> Recipe:
    """Read a recipe with all that it builds on.

    Args:
        recipe: The name of a recipe, or the path of a YAML file; behind it may stand rules, objectives and losses, as
            in `coop+asam`.
        directory: Where recipes have names.
        folder: Where relative paths begin.

    Raises:
        ValueError: There is no such recipe or part (the nearest is named), recipes build on each other in a circle, or
            a file is not a recipe.
    """
    return _read(recipe, directory, folder, ())


def summarize(path: Path) -> str:
    """What a recipe is, in one line: its first comment."""
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    return line.lstrip("# ").rstrip() if line.startswith("#") else ""


def find_recipe(recipe: str, directory: Path = RECIPES, folder: Path = Path()) -> Path:
    """A recipe's file: one of the directory's by name, or any by path.

    Raises:
        ValueError: There is none.
    """
    for path in (directory / f"{recipe}.yaml", folder / recipe):
        if path.is_file():
            return path
    names = sorted(path.stem for path in directory.glob("*.yaml"))
    raise ValueError(
        f"There is no recipe {recipe!r}{nearest(recipe, names)} Give the path of a YAML file, or one of: "
        f"{', '.join(names)}."
    )


def _read(recipe: str, directory: Path, folder: Path, above: tuple[Path, ...]) -> Recipe:
    """Read a recipe that the files `above` build on, the last of them directly."""
    name, *parts = _split(recipe)
    try:
        path = find_recipe(name, directory, folder)
    except ValueError as error:
        if not above:
            raise
        raise ValueError(f"{error} {above[-1]} builds on it.") from error
    if path.resolve() in above:
        circle = " → ".join(each.name for each in [*above[above.index(path.resolve()) :], path])
        raise ValueError(f"The recipe {path} builds on itself: {circle}.")
    values = _load(path)
    base, demo = values.pop("base", None), values.pop("demo", {})
    below = Recipe("", {}, {}) if base is None else _read(base, directory, path.parent, (*above, path.resolve()))
    return _add(_build_on(below, path.stem, values, demo), parts)


def _split(recipe: str) -> list[str]:
    """`coop+asam` is `coop` and `asam`. Only words can be parts, so that a path may have a plus."""
    found = re.fullmatch(r"(.+?)((?:\+\w+)*)", recipe)
    return [found[1], *found[2].split("+")[1:]] if found else [recipe]


def _load(path: Path) -> dict[str, Any]:
    """What a recipe's file says itself.

    Raises:
        ValueError: The file is not a recipe.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"The recipe {path} is not valid YAML: {error}") from error
    if not _has_names(values) or not (values.get("demo") is None or _has_names(values["demo"])):
        raise ValueError(f"The recipe {path} must map arguments to values, as `learning_rate: 0.002` does.")
    if not isinstance(values.get("base", ""), str):
        raise ValueError(f"The recipe {path} builds on {values['base']!r}; give the name or the path of one recipe.")
    return values


def _has_names(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(name, str) for name in values)


def _build_on(base: Recipe, name: str, values: Mapping[str, Any], demo: Mapping[str, Any] | None) -> Recipe:
    """A recipe from what its file says and what its base says."""
    return Recipe(
        name, _replace(base.values, values), {} if demo is None else _replace(_without(base.demo, values), demo)
    )


def _replace(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The base's values, with a recipe's own in their place; null takes a value of the base back."""
    said = {name: value for name, value in values.items() if value is not None or name not in base}
    return _without(base, values) | said


def _without(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of the base's values: a recipe's own replace them, and choices together with their arguments."""
    replaced = values.keys() | {f"{name}_args" for name in values}
    return {name: value for name, value in base.items() if name not in replaced}


def _add(recipe: Recipe, parts: Sequence[str]) -> Recipe:
    """A recipe with rules, objectives and losses, which have their default hyperparameters."""
    chosen: dict[str, str] = {}
    for part in parts:
        argument, name = _find_argument(part, recipe), f"{recipe.name}+{part}"
        if argument == "objectives":
            recipe = _add_objective(recipe, name, part)
        elif argument in chosen:
            raise ValueError(f"{name} chooses {argument} twice, {chosen[argument]} and {part}; leave one of them out.")
        else:
            chosen[argument] = part
            recipe = _build_on(recipe, name, {argument: part}, {})
    return recipe


def _find_argument(part: str, recipe: Recipe) -> str:
    """The argument that takes a rule, an objective or a loss of this name."""
    from .. import objectives, sharpness  # They import torch, for which a list of recipes need not wait.

    names = {"sharpness": sharpness.names(), "objectives": objectives.names(), "loss": objectives.long_tail.names()}
    for argument, known in names.items():
        if part in known:
            return argument
    known = [name for family in names.values() for name in family]
    raise ValueError(
        f"There is no sharpness rule, objective or loss {part!r} to add to {recipe.name}{nearest(part, known)} Known "
        f"are: {', '.join(known)}."
    )


def _add_objective(recipe: Recipe, name: str, objective: str) -> Recipe:
    """A recipe with one more objective, on the demo as well."""

    def added(chosen: Any) -> dict[str, Any]:
        chosen = [chosen] if isinstance(chosen, str) else chosen or {}
        if objective in chosen:
            raise ValueError(f"{recipe.name} has the objective {objective} already; leave it out of {name}.")
        others = chosen if isinstance(chosen, dict) else dict.fromkeys(chosen)
        return {**others, objective: dict(REQUIRED.get(objective, {}))}

    values = {**recipe.values, "objectives": added(recipe.values.get("objectives"))}
    demo = {key: added(value) if key == "objectives" else value for key, value in recipe.demo.items()}
    return Recipe(name, values, demo)
