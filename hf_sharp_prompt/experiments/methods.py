"""The methods of a command line: recipes, and the arguments that replace their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from transformers import HfArgumentParser

from ..hyperparameters import nearest
from ..training.arguments import SharpPromptTrainingArguments
from .arguments import ExperimentArguments
from .recipes import read_recipe
from .smoke import shortened


A = TypeVar("A", bound=ExperimentArguments)
P = TypeVar("P")


@dataclass
class Method(Generic[P]):
    """A recipe as it will be run.

    Args:
        name: What the method is called in directories and tables.
        prompt: The protocol's dataclass of prompt arguments.
        training: The training arguments.
    """

    name: str
    prompt: P
    training: SharpPromptTrainingArguments


@dataclass
class ArgumentGroups(Generic[A, P]):
    """The arguments that a protocol's command line takes.

    Args:
        experiment: The dataclass of the experiment's arguments.
        prompt: The dataclass of a prompt's arguments.
        training: Defaults of the training arguments, by name.
        recipes: The directory where the protocol's recipes have names.
        demo: Values that replace every recipe's where all is on the embedded demo.
    """

    experiment: type[A]
    prompt: type[P]
    training: dict[str, Any]
    recipes: Path
    demo: Mapping[str, Any] = field(default_factory=dict)


def parse_methods(groups: ArgumentGroups[A, P], description: str, argv: Sequence[str]) -> tuple[A, list[Method[P]]]:
    """Read a command line: a recipe's values replace the defaults, and the command line's replace both.

    Args:
        groups: The arguments that there are.
        description: The text of `--help`.
        argv: The command line.

    Returns:
        The experiment's arguments and the methods, one for each of `--recipes`.

    Raises:
        ValueError: An argument or a recipe is wrong.
    """
    if any(word.partition("=")[0] == "--seed" for word in argv):
        raise ValueError("--seed is set for each run; give --seeds, e.g. --seeds 1 2 3.")
    args = parse_one(groups.experiment, make_parser(groups, {}, description), argv)
    if args.smoke:
        args.shrink()
    methods: list[Method[P]] = []
    for name in args.recipes:
        recipe = read_recipe(name, groups.recipes)
        values = {**recipe.resolve(args.on_demo), **(groups.demo if args.on_demo else {})}
        parser = make_parser(groups, values, description)
        try:
            _, prompt, training = parser.parse_args_into_dataclasses(list(argv), look_for_args_file=False)
        except TypeError as error:
            raise ValueError(f"The recipe {name} has a value of the wrong type: {error}.") from error
        check_length(training)
        if args.hub_collection is not None and not training.push_to_hub:
            raise ValueError("--hub_collection gathers what --push_to_hub pushes; give --push_to_hub, too.")
        if recipe.name in (method.name for method in methods):
            raise ValueError(f"--recipes has {recipe.name!r} twice; a method's directory has its name. Rename one.")
        methods.append(Method(recipe.name, prompt, shortened(training) if args.smoke else training))
    return args, methods


def check_length(training: SharpPromptTrainingArguments) -> None:
    """Refuse a run without a step."""
    if training.max_steps <= 0 and training.num_train_epochs <= 0:
        raise ValueError(
            f"num_train_epochs must be greater than 0, got {training.num_train_epochs:g}; nothing would be trained."
        )


class Parser(HfArgumentParser):
    """A parser whose complaint is one sentence, without the usage of all arguments before it."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message[:1].upper()}{message[1:]}; --help lists the arguments.")


def make_parser(groups: ArgumentGroups[A, P], values: dict[str, Any], description: str) -> Parser:
    """A parser of a protocol's arguments whose defaults are the protocol's, and a recipe's values in their place."""
    kinds: Any = [groups.experiment, groups.prompt, SharpPromptTrainingArguments]  # transformers has no type for them
    parser = Parser(kinds, description=description)
    parser.add_argument("--help_all", action="help", help="List all arguments and exit.")
    known = {action.dest for action in parser._actions}
    for name in values.keys() - known:
        raise ValueError(f"A recipe sets {name!r}, which is no argument of this script{nearest(name, known)}")
    parser.set_defaults(**{**groups.training, **values})
    return parser


def parse_one(group: type[A], parser: HfArgumentParser, argv: Iterable[str]) -> A:
    """The arguments of one dataclass alone: those of the others may be wrong without what a recipe sets."""
    values = vars(parser.parse_args(list(argv)))
    return group(**{field.name: values[field.name] for field in dataclasses.fields(group)})
