"""The command `sharp-prompt recipes`: which recipes there are, and what one resolves to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import yaml

from ..printable import printable
from .recipes import RECIPES, list_recipes, read_recipe, summarize


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="List the recipes, each with one line on it, or show one's values.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="list all recipes (the default)")
    show = commands.add_parser("show", help="print a recipe's values, with those of the recipes that it builds on")
    show.add_argument("name", help="a recipe's name, such as coop, coop+asam or long_tail/ce, or the path of a file")
    args = parser.parse_args(list(argv))
    if args.command == "show":
        show_recipe(args.name)
    else:
        print_list()
    return 0


def print_list() -> None:
    """Print each recipe's name and what it is."""
    names = list_recipes()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {summarize(RECIPES / f'{name}.yaml')}")


def show_recipe(name: str) -> None:
    """Print a recipe as a recipe that builds on nothing."""
    folder, _, own_name = name.rpartition("/")
    is_in_folder = folder and (RECIPES / folder).is_dir()
    recipe = read_recipe(own_name, RECIPES / folder) if is_in_folder else read_recipe(name)
    demo = {"demo": dict(recipe.demo)} if recipe.demo else {}
    print(printable_yaml({**recipe.values, **demo}), end="")


def printable_yaml(values: dict[str, object]) -> str:
    """Values as YAML, without control characters."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return "".join(f"{printable(line)}\n" for line in text.splitlines())
