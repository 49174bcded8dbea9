"""A command's arguments, described once: for its `--help`, and for the dataclass that holds them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


REST = """
Everything that a recipe sets can be set here, too, such as --learning_rate, --num_train_epochs or --sharpness, and so
can transformers' training arguments, such as --push_to_hub. --help_all lists all arguments, of which there are many.
"""


@dataclass(frozen=True)
class Option:
    """An argument of a command.

    Args:
        help: What it sets, and the default in words where `default` is None.
        default: Its default; None for one that only words can say.
        settings: What else argparse takes, such as `choices`.
    """

    help: str
    default: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_default(self, default: Any) -> Option:
        """The same argument in a command that has another default."""
        return dataclasses.replace(self, default=default)

    def add_to(self, parser: argparse.ArgumentParser, name: str) -> None:
        """Add it to a parser, which takes it as text."""
        if isinstance(self.default, bool):
            parser.add_argument(f"--{name}", action="store_true", help=self.help)
            return
        several = {"nargs": "+"} if isinstance(self.default, list) else {}
        text = self.help + self.default_in_words
        parser.add_argument(f"--{name}", help=text, default=self.default, **{**several, **self.settings})

    @property
    def default_in_words(self) -> str:
        """A sentence with the default; empty where the help has it."""
        if self.default is None:
            return ""
        words = self.default if isinstance(self.default, list) else [self.default]
        return f" Default: {' '.join(map(str, words))}."


def option_field(option: Option, default: Any = None) -> Any:
    """Make a dataclass's field of an argument, as `HfArgumentParser` reads it.

    Args:
        option: The argument.
        default: Its default, where the manual has only words for it.
    """
    value = option.default if default is None else default
    metadata = {"help": option.help, **option.settings}
    if isinstance(value, list):
        return field(default_factory=lambda: list(value), metadata=metadata)
    return field(default=value, metadata=metadata)


@dataclass(frozen=True)
class Manual:
    """What a command's `--help` shows: what people set first.

    Args:
        text: What the command does.
        options: Its arguments by name.
    """

    text: str
    options: Mapping[str, Option]

    def __getitem__(self, name: str) -> Option:
        return self.options[name]

    def format(self) -> str:
        """The text of `--help`."""
        layout = argparse.RawDescriptionHelpFormatter
        parser = argparse.ArgumentParser(description=self.text, epilog=REST, formatter_class=layout, add_help=False)
        for name, option in self.options.items():
            option.add_to(parser, name)
        return parser.format_help()


def is_asked_for(argv: Sequence[str]) -> bool:
    """Whether a command line asks for the manual."""
    return bool({"-h", "--help"} & {*argv})
